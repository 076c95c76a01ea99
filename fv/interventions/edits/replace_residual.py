"""Replacement of the residual stream, in whole or in part."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from fv.interventions.edit import Edit
from fv.interventions.edit_checks import check_share, check_vector
from fv.interventions.place import Part, Place
from fv.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False, repr=False)
class ReplaceResidual(Edit):
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

    @cached_property
    def places(self) -> tuple[Place, ...]:
        return (Place(self.layer, Part.residual),)

    def change(self, place: Place, hidden: Tensor) -> Tensor:
        vector = self.vector.to(hidden)
        return vector.expand_as(hidden) if self.share == 1 else hidden + self.share * (vector - hidden)

    @classmethod
    def change_rows(cls, edits: Sequence[Self], place: Place, hidden: Tensor) -> Tensor:
        vectors = torch.stack([edit.vector for edit in edits]).to(hidden)  # (n_rows, d_model)
        shares = torch.tensor([edit.share for edit in edits], device=hidden.device, dtype=hidden.dtype)[:, None]
        return torch.where(shares == 1, vectors, hidden + shares * (vectors - hidden))

    def check(self, lm: LanguageModel) -> None:
        self.check_places(lm)
        check_vector("ReplaceResidual.vector", self.vector, lm)
        check_share("ReplaceResidual.share", self.share)

    @property
    def words(self) -> str:
        return f"with the residual stream after block {self.layer} replaced"

    def scaled(self, alpha: float) -> Self:
        return replace(self, share=alpha * self.share)
