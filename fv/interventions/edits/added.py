"""Addition of a vector at one place: the base of `AddVector`, `AddToAttention` and `AddToMLP`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor

from fv.interventions.edit import Edit
from fv.interventions.edit_checks import check_added
from fv.interventions.place import Part, Place
from fv.models.identity import Identity, check_made_by
from fv.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False, repr=False)
class Added(Edit):
    """Addition of a vector, (d_model,), to one part of a block."""

    layer: int
    vector: Tensor
    prompt_ending: str | None = None
    made_by: Identity | None = None

    part: ClassVar[Part]

    @cached_property
    def places(self) -> tuple[Place, ...]:
        return (Place(self.layer, self.part),)

    def change(self, place: Place, hidden: Tensor) -> Tensor:
        return hidden + self.vector.to(hidden)

    @classmethod
    def change_rows(cls, edits: Sequence[Self], place: Place, hidden: Tensor) -> Tensor:
        return hidden + torch.stack([edit.vector for edit in edits]).to(hidden)

    def check(self, lm: LanguageModel) -> None:
        self.check_places(lm)
        name = type(self).__name__
        check_added(f"{name}.vector", self.vector, lm)
        check_made_by(f"{name}.vector is", self.made_by, lm)

    @property
    def words(self) -> str:
        after = f"after block {self.layer}" if self.part is Part.residual else f"to {self.places[0]}"
        return f"with a vector added {after}"

    @property
    def prompt_endings(self) -> tuple[str, ...]:
        return (self.prompt_ending,) if self.prompt_ending else ()

    def scaled(self, alpha: float) -> Self:
        return replace(self, vector=alpha * self.vector)
