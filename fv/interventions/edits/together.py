"""Several edits as one."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from torch import Tensor

from fv.interventions.edit import Edit, checked_edits
from fv.interventions.place import Place
from fv.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False, repr=False)
class Edits(Edit):
    """Make any number of edits in one row, at any places; at one place, they act in the given order.

    Example:
        >>> one = torch.ones(lm.d_model)
        >>> both = fv.Edits((fv.AddVector(11, one), fv.SetHeads(((12, 0), (14, 3)), 0.0)))
        >>> with lm.edited(both):
        ...     text = lm.generate("Q: hot\\nA:", max_new_tokens=1)

    Attributes:
        edits: the edits, which may be composed of others themselves.
    """

    edits: tuple[Edit, ...]

    @cached_property
    def parts(self) -> tuple[Edit, ...]:
        return tuple(part for edit in self.edits for part in edit.parts)

    @cached_property
    def places(self) -> tuple[Place, ...]:
        return tuple(dict.fromkeys(place for part in self.parts for place in part.places))

    def change(self, place: Place, hidden: Tensor) -> Tensor:
        changed = hidden
        for part in self.parts:
            changed = part.change(place, changed) if place in part.places else changed
        return changed

    def check(self, lm: LanguageModel) -> None:
        checked_edits(lm, self.edits)

    @property
    def words(self) -> str:
        return " and ".join(part.words for part in self.parts)

    @property
    def prompt_endings(self) -> tuple[str, ...]:
        return tuple(ending for part in self.parts for ending in part.prompt_endings)

    def scaled(self, alpha: float) -> Self:
        """Make each edit `alpha` times as strong."""
        return replace(self, edits=tuple(edit.scaled(alpha) for edit in self.edits))
