"""Candidate: a condition before its option is chosen, with its prompt, its options and its comparisons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fv.data.prompt_kinds import CLEAN, CORRUPTED, ZERO_SHOT
from fv.errors import ConfigError, one_of
from fv.files import JsonObject
from fv.vectors.options import Fixed, Options

NO_VECTOR = ""
"""Value of `fv` for a condition that belongs to no function vector."""
UNEDITED = {"zero_shot": ZERO_SHOT, "few_shot": CLEAN, "few_shot_corrupted": CORRUPTED}
"""{condition without an edit: its kind of prompt}; edits of a prompt are compared with these."""
LABELS = ("fv", "draw", "of", "compared_with", "all_draws", "refit_of")
"""Fields that describe a condition and do not change its numbers."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A condition (`fv.evaluation.condition.Condition`) before one of its options is chosen.

    Attributes:
        name: its name.
        prompt: kind of prompt, `zero_shot`, `clean` or `corrupted`.
        options: the edits of the last prompt token that dev trials choose among; by default no edit.
        fv: the function vector that it belongs to; empty if it belongs to none.
        draw: number of the random draw, if there are several.
        of: the other relation that it is made from.
        compared_with: the vector whose controls a vector is compared with.
        all_draws: whether all possible draws are run.
        minus: the conditions that are subtracted from it, trial by trial.
        control_of: the conditions that it is subtracted from.
        refit_of: the condition that it is a refit of, whose intervals it widens and whose option it takes, so its
            options are of the same kind; empty for none.

    Raises:
        ConfigError: the kind of prompt is unknown, or `options` are no options.
    """

    name: str
    prompt: str = ZERO_SHOT
    options: Options = field(default_factory=Fixed)
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
        if not isinstance(self.options, Options):
            kind = type(self.options).__name__
            raise ConfigError(f"The condition {self.name}: options is a {kind}; wrap an edit in Fixed(…).")

    @property
    def labels(self) -> JsonObject:
        """Fields that describe the condition and do not change its numbers."""
        return {name: getattr(self, name) for name in LABELS}

    @property
    def contrasts(self) -> list[tuple[str, str]]:
        """All its comparisons: pairs of a condition and the condition subtracted from it."""
        return [*((self.name, other) for other in self.minus), *((other, self.name) for other in self.control_of)]

    @property
    def content(self) -> list[Any]:
        """Everything that its numbers depend on, except prompts and the residual stream, as a JSON value."""
        return [self.name, self.prompt, self.options.content, self.labels]
