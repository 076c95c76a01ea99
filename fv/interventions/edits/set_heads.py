"""Setting of heads, in whole or in part."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from fv.errors import ConfigError
from fv.interventions.edit_checks import check_floating, check_share
from fv.interventions.edits.head_values import HeadValues, named_in
from fv.interventions.place import Place
from fv.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False, repr=False)
class SetHeads(HeadValues):
    """Set the outputs of one or several heads at the same time, or move them: (1 - share) * own + share * value.

    Heads may be in several layers. With a mean as `values` and a share for each head, it gives every head its own
    weight between its output and its mean.

    Example:
        >>> with lm.edited(fv.SetHeads(((11, 0), (11, 2)), 0.0)):
        ...     text = lm.generate("Q: hot\\nA:", max_new_tokens=1)

    Attributes:
        heads: (layer, head) of each.
        values: the new outputs: a number, for all heads; or a floating-point tensor, (n, head_dim) for the n named
            heads in order, or (n_layers, n_heads, head_dim), such as a mean, from which only the values of `heads` are
            read.
        share: the share of the way from a head's own output; 1 sets it. A number for all heads, or a floating-point
            tensor, (n,) for the n named heads in order.
    """

    share: float | Tensor = 1.0

    def change(self, place: Place, hidden: Tensor) -> Tensor:
        return self._moved([self], place.layer, hidden.clone()[..., None, :, :]).squeeze(-3)

    @classmethod
    def change_rows(cls, edits: Sequence[Self], place: Place, hidden: Tensor) -> Tensor:
        return cls._moved(edits, place.layer, hidden)

    @staticmethod
    def _moved(edits: Sequence["SetHeads"], layer: int, hidden: Tensor) -> Tensor:
        """Move heads in place; `hidden` is (…, n_rows, n_heads, head_dim), a row per edit."""
        rows, numbers, heads, values = named_in(edits, layer, hidden)
        if any(edit._is_partial for edit in edits):
            named = zip(rows, numbers, strict=True)
            shares = torch.stack([edits[row].share_of(number) for row, number in named]).to(hidden)[:, None]
            own = hidden[..., rows, heads, :]  # (…, n_named, head_dim)
            values = torch.where(shares == 1, values, own + shares * (values - own))
        hidden[..., rows, heads, :] = values
        return hidden

    @property
    def _is_partial(self) -> bool:
        return isinstance(self.share, Tensor) or self.share != 1

    def share_of(self, number: int) -> Tensor:
        """The share of the head with this number among `heads`, ()."""
        if not isinstance(self.share, Tensor):
            return torch.tensor(self.share, dtype=torch.float64)
        return self.share[number] if self.share.ndim else self.share

    def check(self, lm: LanguageModel) -> None:
        super().check(lm)
        if not isinstance(self.share, Tensor):
            check_share("SetHeads.share", self.share)
            return
        check_floating("SetHeads.share", self.share)
        if tuple(self.share.shape) not in ((), (len(self.heads),)):
            raise ConfigError(
                f"SetHeads.share has the shape {tuple(self.share.shape)}, where a number is due, or "
                f"({len(self.heads)},), one for each of the heads named."
            )
        if not self.share.isfinite().all() or not self.share.any():
            raise ConfigError("SetHeads.share must be finite, and not 0 for every head, which would change nothing.")

    @property
    def words(self) -> str:
        return f"with {len(self.heads)} heads set"

    def scaled(self, alpha: float) -> Self:
        return replace(self, share=alpha * self.share)
