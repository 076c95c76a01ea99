"""A condition before its cell is settled: its prompt, its edit, and what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from fv.errors import one_of

if TYPE_CHECKING:
    from torch import Tensor

    from fv.interventions.edits import LastTokenEdit
    from fv.interventions.engine import Cell

NO_VECTOR = ""
"""The `fv` of a condition without a function vector."""
UNEDITED = {"zero_shot": "zero_shot", "few_shot": "clean", "few_shot_corrupted": "corrupted"}
"""Conditions without an edit, and their prompts: edits of these prompts change them."""


class At(StrEnum):
    """Where an injected vector is added."""

    given = "given"
    """At a given cell."""
    own = "own"
    """At its own best cell on dev trials, among the cells of the grid, weaker strengths, and none at all."""
    refitted = "refitted"
    """At the cell of the condition that it is a refit of."""


@dataclass(frozen=True, eq=False)
class Injected:
    """A vector, (d_model,), added at `cell`, or `at` a cell that is found first."""

    vector: Tensor
    cell: Cell
    at: At = At.given


@dataclass(frozen=True, eq=False)
class LayerVectors:
    """A vector for each layer, (n_layers, d_model), of which one is added, or `replaces` the residual stream, at its
    own best cell on dev trials; at `cell` where there are none."""

    vectors: Tensor
    cell: Cell
    replaces: bool = False


@dataclass(frozen=True, eq=False)
class Candidate:
    """A condition (`fv.evaluation.settled.Condition`) before its cell is settled.

    Attributes:
        name: what it is.
        prompt: `zero_shot`, `clean` or `corrupted`.
        edit: what it does; None for nothing.
        fv: the function vector it belongs to; empty where it belongs to none.
        draw: which of several of its kind.
        of: the other relation it is made of.
        compared_with: the vector whose controls a vector is compared with.
        all_draws: whether there are no other draws of its kind than those that are run.
        minus: the conditions that are subtracted from it, trial by trial.
        control_of: the conditions that it is subtracted from.
        refit_of: the condition whose intervals it widens, made again from resampled fit trials; empty for none.
    """

    name: str
    prompt: str = "zero_shot"
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
        """The fields that only name it."""
        return {key: getattr(self, key) for key in ("fv", "draw", "of", "compared_with", "all_draws", "refit_of")}

    @property
    def contrasts(self) -> list[tuple[str, str]]:
        """(condition, what is subtracted from it), of all comparisons that it has a part in."""
        return [*((self.name, other) for other in self.minus), *((other, self.name) for other in self.control_of)]

    @property
    def content(self) -> list[Any]:
        """All that its numbers depend on beside prompts and the cells to choose from: a JSON value."""
        edit = [] if self.edit is None else [_content(getattr(self.edit, own.name)) for own in fields(self.edit)]
        return [self.name, self.prompt, type(self.edit).__name__, edit, self.labels]


def _content(value: Any) -> Any:
    """A field of an edit as a JSON value, tensors by their digest."""
    from torch import Tensor

    from fv.work.store import digest_of_tensor

    if isinstance(value, Tensor):
        return digest_of_tensor(value)
    return [*map(_content, value)] if isinstance(value, tuple) else value
