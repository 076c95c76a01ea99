"""Edits of a model's hidden states, and passes that edit each row's last prompt token (spec section 1).

An engine (`fv.interventions.engine`) runs one kind of edit at many heads or cells, which give the place. An edit here
has its place and its values; in the passes of `edited_rows`, rows may have different edits at different layers.
`fv.interventions.editing` applies the same edits while a user runs the model.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from fv.characters import visible
from fv.interventions.hooks import edit_block_output, edit_head_outputs
from fv.models.identity import Identity
from fv.models.language_model import LanguageModel


class _Edit:
    """The base of edits, which shows an edit in one line however large its tensors are."""

    def __repr__(self) -> str:
        given = {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]
        told = ", ".join(f"{name}={_told(value)}" for name, value in given.items() if value is not None)
        return visible(f"{type(self).__name__}({told})")


def _told(value: object) -> str:
    return f"tensor of {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)


@dataclass(frozen=True, eq=False, repr=False)
class AddVector(_Edit):
    """Add a vector to the residual stream after block `layer`.

    Example:
        >>> with lm.edited(fv.AddVector(11, 3 * torch.ones(lm.d_model))):
        ...     text = lm.generate("Q: hot\\nA:", max_new_tokens=1)

    Attributes:
        layer: the block, from 0.
        vector: (d_model,), a floating-point tensor (not a list or an array); cast to the model's number format.
        prompt_ending: the ending of prompts in the vector's template, such as "\\nA:"; `generate` warns of others.
        made_by: the model that the vector comes from, if it is known; `edited` warns if it is another model.
    """

    layer: int
    vector: Tensor
    prompt_ending: str | None = None
    made_by: Identity | None = None


@dataclass(frozen=True, eq=False, repr=False)
class ReplaceResidual(_Edit):
    """Move the residual stream h after block `layer` towards a vector: h + share * (vector - h).

    Example:
        >>> with lm.edited(fv.ReplaceResidual(11, torch.ones(lm.d_model), share=0.5)):
        ...     text = lm.generate("Q: hot\\nA:", max_new_tokens=1)

    Attributes:
        layer: the block, from 0.
        vector: (d_model,), a floating-point tensor (not a list or an array); cast to the model's number format.
        share: the share of the way; 1 replaces the residual stream by the vector.
    """

    layer: int
    vector: Tensor
    share: float = 1.0


@dataclass(frozen=True, eq=False, repr=False)
class SetHeads(_Edit):
    """Set the outputs of one or several heads at the same time.

    Example:
        >>> with lm.edited(fv.SetHeads(((11, 0), (11, 2)), 0.0)):
        ...     text = lm.generate("Q: hot\\nA:", max_new_tokens=1)

    Attributes:
        heads: (layer, head) of each.
        values: the new outputs: a number, for all heads; or a floating-point tensor, (n, head_dim) for the n named
            heads in order, or (n_layers, n_heads, head_dim), from which only the values of `heads` are read.
    """

    heads: tuple[tuple[int, int], ...]
    values: Tensor | float

    def value(self, number: int, width: int) -> Tensor:
        """The new output of the head with this number among `heads`, (width,)."""
        if not isinstance(self.values, Tensor):
            return torch.full((width,), self.values, dtype=torch.float64)
        if self.values.ndim == 3:
            layer, head = self.heads[number]
            return self.values[layer, head]
        return self.values[number] if self.values.ndim == 2 else self.values.expand(width)


AnyEdit = AddVector | ReplaceResidual | SetHeads
"""An edit, with its place and its values."""
LastTokenEdit = AnyEdit | None
"""An edit of a row; None leaves the row unedited."""


def first_block(edit: AnyEdit) -> int:
    """The first block whose result the edit changes; n_layers if there is none."""
    return min((layer for layer, _ in edit.heads), default=0) if isinstance(edit, SetHeads) else edit.layer + 1


@contextmanager
def edited_rows(lm: LanguageModel, edits: Sequence[LastTokenEdit], at: int = 0) -> Iterator[None]:
    """Run the model with row r of every prompt edited by `edits[r]`, at position `at` of the tokens that are run.

    A batch is (n_prompts * n_rows, positions), the rows of a prompt next to one another.

    Raises:
        ModelError: an edited module took no part in the forward pass.
    """
    n_rows = len(edits)

    def on_rows(change: Callable[[Tensor], None], width: int | None = None) -> Callable[[Tensor], Tensor]:
        def edit(hidden: Tensor) -> Tensor:
            # (n_prompts * n_rows, positions, …) -> (n_prompts, n_rows, positions, …)
            by_row = hidden.clone().unflatten(0, (-1, n_rows))
            change(by_row if width is None else by_row.unflatten(-1, (lm.n_heads, width)))
            return by_row.flatten(0, 1)

        return edit

    with ExitStack() as stack:
        for layer in sorted({layer for edit in edits if isinstance(edit, SetHeads) for layer, _ in edit.heads}):
            change = heads_setter(lm, edits, layer, at)
            stack.enter_context(edit_head_outputs(lm, layer, on_rows(change, lm.head_dim)))
        for layer in sorted({edit.layer for edit in edits if isinstance(edit, AddVector | ReplaceResidual)}):
            stack.enter_context(edit_block_output(lm, layer, on_rows(residual_changer(lm, edits, layer, at))))
        yield


def heads_setter(lm: LanguageModel, edits: Sequence[LastTokenEdit], layer: int, at: int) -> Callable[[Tensor], None]:
    """A function that sets, in place, the heads of a layer that the edits name; head outputs have one row per edit.

    Head outputs are (n_prompts, n_rows, positions, n_heads, head_dim); `at` is the position that is edited.
    """
    rows, heads, found = [], [], []
    for row, edit in enumerate(edits):
        for number, (in_layer, head) in enumerate(edit.heads if isinstance(edit, SetHeads) else ()):
            if in_layer == layer:
                assert isinstance(edit, SetHeads)
                rows.append(row)
                heads.append(head)
                found.append(edit.value(number, lm.head_dim).to(lm.dtype))
    values = torch.stack(found).to(lm.device)  # (n_heads_set, head_dim)

    def change(head_outputs: Tensor) -> None:
        head_outputs[:, rows, at, heads] = values.to(head_outputs.device)

    return change


def residual_changer(
    lm: LanguageModel, edits: Sequence[LastTokenEdit], layer: int, at: int
) -> Callable[[Tensor], None]:
    """A function that edits, in place, the residual stream after block `layer`; it has one row per edit.

    The residual stream is (n_prompts, n_rows, positions, d_model); `at` is the position that is edited.
    """
    there = {
        row: edit
        for row, edit in enumerate(edits)
        if isinstance(edit, AddVector | ReplaceResidual) and edit.layer == layer
    }
    rows = [*there]
    vectors = torch.stack([edit.vector for edit in there.values()]).to(lm.device, lm.dtype)  # (n_rows_here, d_model)
    # The share of the residual stream that is replaced; an added vector replaces nothing. Both (n_rows_here, 1)
    adds = torch.tensor([isinstance(edit, AddVector) for edit in there.values()], device=lm.device)[:, None]
    goes = [edit.share if isinstance(edit, ReplaceResidual) else 0.0 for edit in there.values()]
    shares = torch.tensor(goes, device=lm.device, dtype=lm.dtype)[:, None]

    def change(residual: Tensor) -> None:
        here = residual[:, rows, at]
        vector, share, added = (part.to(here.device) for part in (vectors, shares, adds))
        replaced = torch.where(share == 1, vector, here + share * (vector - here))
        residual[:, rows, at] = torch.where(added, here + vector, replaced)

    return change
