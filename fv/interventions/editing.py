"""Editing a model while its user runs it: in any forward and any `generate`, with and without a cache."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fv.interventions.edit_checks import checked_edits
from fv.interventions.edits import AddVector, AnyEdit, ReplaceResidual, SetHeads
from fv.interventions.hooks import edit_block_output, edit_head_outputs
from fv.interventions.positions import Positions, parse_positions
from fv.interventions.prompt_tracker import PromptTracker
from fv.models.language_model import LanguageModel

_AT_WORK: WeakKeyDictionary[nn.Module, list[AnyEdit]] = WeakKeyDictionary()


def edits_at_work(model: nn.Module) -> tuple[AnyEdit, ...]:
    """The edits that are active in a model now, in the order in which they were entered."""
    return tuple(_AT_WORK.get(model, ()))


def edited(
    lm: LanguageModel, edits: AnyEdit | Sequence[AnyEdit], positions: str = Positions.last_prompt
) -> AbstractContextManager[None]:
    """Edit a model for as long as the block lasts; see `EditableModel.edited`.

    Raises:
        ConfigError: an edit does not fit the model or would change nothing, or `positions` is unknown.
        ModelError: at the end of the block: nothing was edited inside it.
    """
    return _editing(lm, checked_edits(lm, edits), parse_positions(positions))


@contextmanager
def _editing(lm: LanguageModel, edits: tuple[AnyEdit, ...], positions: Positions) -> Iterator[None]:
    tracker = PromptTracker(positions)
    with ExitStack() as stack:
        stack.enter_context(_registered(lm.model, edits))
        stack.enter_context(tracker.following(lm.model))
        for edit in edits:
            stack.enter_context(_acting(lm, edit, tracker))
        yield
        tracker.check_acted()


@contextmanager
def _registered(model: nn.Module, edits: tuple[AnyEdit, ...]) -> Iterator[None]:
    before = edits_at_work(model)
    _AT_WORK[model] = [*before, *edits]
    try:
        yield
    finally:
        _AT_WORK[model] = [*before]


@contextmanager
def _acting(lm: LanguageModel, edit: AnyEdit, tracker: PromptTracker) -> Iterator[None]:
    """Run one edit by hooks; the hooks of a module run in the order in which they are set."""
    with ExitStack() as stack:
        if isinstance(edit, SetHeads):
            for layer in sorted({layer for layer, _ in edit.heads}):
                stack.enter_context(edit_head_outputs(lm, layer, _setting(lm, edit, layer, tracker)))
        else:
            path = f"{lm.spec.blocks}.{edit.layer}"
            stack.enter_context(edit_block_output(lm, edit.layer, _changing(edit, path, tracker)))
        yield


def _changing(edit: AddVector | ReplaceResidual, path: str, tracker: PromptTracker) -> Callable[[Tensor], Tensor]:
    def change(residual: Tensor) -> Tensor:
        meant = tracker.meant(residual, path)  # (batch, tokens)
        vector = edit.vector.to(residual)  # (d_model,)
        if isinstance(edit, AddVector):
            changed = residual + vector
        elif edit.share == 1:
            changed = vector
        else:
            changed = residual + edit.share * (vector - residual)
        return torch.where(meant[..., None], changed, residual)

    return change


def _setting(lm: LanguageModel, edit: SetHeads, layer: int, tracker: PromptTracker) -> Callable[[Tensor], Tensor]:
    here = [(number, head) for number, (in_layer, head) in enumerate(edit.heads) if in_layer == layer]
    heads = [head for _, head in here]
    values = torch.stack([edit.value(number, lm.head_dim) for number, _ in here])  # (n_heads_here, head_dim)
    path = f"{lm.spec.blocks}.{layer}.{lm.spec.out_proj}"

    def change(head_outputs: Tensor) -> Tensor:
        meant = tracker.meant(head_outputs, path)  # (batch, tokens)
        # (batch, tokens, n_heads * head_dim) -> (batch, tokens, n_heads, head_dim)
        by_head = head_outputs.unflatten(-1, (lm.n_heads, lm.head_dim))
        changed = by_head.clone()
        changed[..., heads, :] = values.to(by_head)
        return torch.where(meant[..., None, None], changed, by_head).flatten(-2)

    return change
