"""Addition of a vector to the residual stream, whose norm stays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from fv.interventions.edit import Edit
from fv.interventions.edit_checks import check_added
from fv.interventions.place import Part, Place
from fv.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False, repr=False)
class AddKeepingNorm(Edit):
    """Add a vector to the residual stream h after block `layer`, then rescale to the norm of h.

    It turns the residual stream towards the vector: (h + vector) * |h| / |h + vector|, as in-context vectors do
    (Liu et al., 2023).

    Example:
        >>> with lm.edited(fv.AddKeepingNorm(11, 3 * torch.ones(lm.d_model))):
        ...     text = lm.generate("Q: hot\\nA:", max_new_tokens=1)

    Attributes:
        layer: the block, from 0.
        vector: (d_model,), a floating-point tensor (not a list or an array); cast to the model's number format.
    """

    layer: int
    vector: Tensor

    @cached_property
    def places(self) -> tuple[Place, ...]:
        return (Place(self.layer, Part.residual),)

    def change(self, place: Place, hidden: Tensor) -> Tensor:
        return _turned(hidden, self.vector.to(hidden))

    @classmethod
    def change_rows(cls, edits: Sequence[Self], place: Place, hidden: Tensor) -> Tensor:
        return _turned(hidden, torch.stack([edit.vector for edit in edits]).to(hidden))

    def check(self, lm: LanguageModel) -> None:
        self.check_places(lm)
        check_added("AddKeepingNorm.vector", self.vector, lm)

    @property
    def words(self) -> str:
        return f"with a vector added after block {self.layer}, with its norm kept"

    def scaled(self, alpha: float) -> Self:
        return replace(self, vector=alpha * self.vector)


def _turned(hidden: Tensor, vector: Tensor) -> Tensor:
    # Norms of narrow formats could overflow.
    wide = torch.promote_types(hidden.dtype, torch.float32)
    own, moved = hidden.to(wide), hidden.to(wide) + vector.to(wide)  # (…, d_model)
    before, after = (torch.linalg.vector_norm(each, dim=-1, keepdim=True) for each in (own, moved))
    return (moved * (before / after.clamp_min(torch.finfo(wide).tiny))).to(hidden.dtype)
