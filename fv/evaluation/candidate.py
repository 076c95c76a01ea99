"""Candidate: a condition before its cell is settled, with its prompt, its edit and its comparisons."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from fv.data.prompt_kinds import CLEAN, CORRUPTED, ZERO_SHOT
from fv.errors import one_of

if TYPE_CHECKING:
    from torch import Tensor

    from fv.interventions.edits import LastTokenEdit
    from fv.interventions.engine import Cell

NO_VECTOR = ""
"""Value of `fv` for a condition that belongs to no function vector."""
UNEDITED = {"zero_shot": ZERO_SHOT, "few_shot": CLEAN, "few_shot_corrupted": CORRUPTED}
"""{condition without an edit: its kind of prompt}; edits of a prompt are compared with these."""


class At(StrEnum):
    """Choice of the cell at which a vector is injected."""

    given = "given"
    """The given cell."""
    own = "own"
    """The vector's own best cell on dev trials, among the grid's cells, weaker strengths, and no injection at all."""
    refitted = "refitted"
    """The cell of the condition that is refitted."""


@dataclass(frozen=True, eq=False)
class Injected:
    """Injection of a vector, (d_model,), at `cell`, or at a cell that is chosen first (`at`)."""

    vector: Tensor
    cell: Cell
    at: At = At.given


@dataclass(frozen=True, eq=False)
class LayerVectors:
    """Injection of a layer's own vector, from (n_layers, d_model), at the best cell on dev trials.

    The vector is added to the residual stream, or `replaces` it. Without dev trials it is injected at `cell`.
    """

    vectors: Tensor
    cell: Cell
    replaces: bool = False


@dataclass(frozen=True, eq=False)
class Candidate:
    """A condition (`fv.evaluation.condition.Condition`) before its cell is settled.

    Attributes:
        name: its name.
        prompt: kind of prompt, `zero_shot`, `clean` or `corrupted`.
        edit: edit of the last prompt token; None for no edit.
        fv: the function vector that it belongs to; empty if it belongs to none.
        draw: number of the random draw, if there are several.
        of: the other relation that it is made from.
        compared_with: the vector whose controls a vector is compared with.
        all_draws: whether all possible draws are run.
        minus: the conditions that are subtracted from it, trial by trial.
        control_of: the conditions that it is subtracted from.
        refit_of: the condition that it is a refit of, whose intervals it widens; empty for none.
    """

    name: str
    prompt: str = ZERO_SHOT
    edit: Injected | LayerVectors | LastTokenEdit = None
    fv: str = NO_VECTOR
    draw: int = 0
    of: str | None = None
    compared_with: str | None = None
    all_draws: bool = True
    minus: tuple[str, ...] = ()
    control_of: tuple[str, ...] = ()
    refit_of: str = ""

    def __post_init__(self) -> None:
        one_of(f"The condition {self.name}: prompt", self.prompt, UNEDITED.values())

    @property
    def labels(self) -> dict[str, Any]:
        """Fields that describe the condition and do not change its numbers."""
        return {key: getattr(self, key) for key in ("fv", "draw", "of", "compared_with", "all_draws", "refit_of")}

    @property
    def contrasts(self) -> list[tuple[str, str]]:
        """All its comparisons: pairs of a condition and the condition subtracted from it."""
        return [*((self.name, other) for other in self.minus), *((other, self.name) for other in self.control_of)]

    @property
    def content(self) -> list[Any]:
        """Everything except prompts and cells to choose from that its numbers depend on, as a JSON value."""
        edit = [] if self.edit is None else [_content(getattr(self.edit, own.name)) for own in fields(self.edit)]
        return [self.name, self.prompt, type(self.edit).__name__, edit, self.labels]


def _content(value: Any) -> Any:
    """Convert a field of an edit to a JSON value; a tensor becomes its digest."""
    from torch import Tensor

    from fv.work.store import digest_of_tensor

    if isinstance(value, Tensor):
        return digest_of_tensor(value)
    return [*map(_content, value)] if isinstance(value, tuple) else value
