"""Configurations of runs that take a second, made from the settings' classes without Hydra."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import reduce
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from fv.analyses import analyses_of, known_analyses
from fv.config import Config
from fv.config.overrides import shown_value
from fv.evaluation.conditions import providers_of

Settings = Mapping[str, Any]
"""{dotted key of a setting: value}; `analysis` names the analyses in place of the default ones, and settings of other
analyses are left out."""

QUICK: Settings = {
    "run_id": "r",
    "model.name": "tiny",
    "data.name": "small",
    "compute.selfcheck": False,
    "compute.threads": 1,
    "report.page": "none",
}
"""Settings of every small run: one thread, no self-check, no page."""
GRID: Settings = {
    "data.n_trials_per_q": 3,
    "data.n_demos": 3,
    "data.n_eval_trials_per_q": 3,
    "score.k": 3,
    "injection.fv": "global",
    "evaluation.held_out": False,
}
"""Settings of a run of few trials, with only one vector's grid of layers."""


class TinyRun:
    """The settings of one small run, to be changed.

    `tiny_run({"injection.layer": [0, 1]}, tag="two")` is a configuration, `tiny_run.but(…)` is another run that starts
    from these settings, and `tiny_run.words(…)` the words that give the same settings to a command.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = dict(settings)

    def __call__(self, *changes: Settings, **more: Any) -> Config:
        return configured(self.but(*changes, **more).settings)

    def but(self, *changes: Settings, **more: Any) -> "TinyRun":
        settings = dict(self.settings)
        for each in (*changes, more):
            settings |= each
        return TinyRun(settings)

    def words(self, *changes: Settings, **more: Any) -> list[str]:
        settings = _said(self.but(*changes, **more).settings)
        return ["model=local", *(f"{key}={shown_value(key, value)}" for key, value in settings.items())]


TinyRunIn = Callable[[Path], TinyRun]
"""A small run of `QUICK` in a folder of results."""


def configured(settings: Settings) -> Config:
    """The configuration with these settings; every other setting has its default.

    Raises:
        AttributeError: a key names no setting.
    """
    said = _said(settings)
    given = _nested({key: value for key, value in said.items() if key != "analysis"})
    evaluation, of_analyses = given.get("evaluation", {}), given.get("analysis", {})
    given["evaluation"] = {**evaluation, "conditions": providers_of(evaluation.get("conditions", {}))}
    given["analysis"] = analyses_of({name: of_analyses.get(name, {}) for name in _analyses(settings)})
    config = TypeAdapter(Config).validate_python(given)
    for key in said:
        reduce(_part, key.split("."), config)
    return config


def _said(settings: Settings) -> dict[str, Any]:
    """The settings of this run's analyses and of all else, as plain values."""
    others = tuple(f"analysis.{name}." for name in {*known_analyses()} - {*_analyses(settings)})
    plain = {key: str(value) if isinstance(value, Path) else deepcopy(value) for key, value in settings.items()}
    return {key: value for key, value in plain.items() if not key.startswith(others)}


def _analyses(settings: Settings) -> list[str]:
    return settings.get("analysis", [name for name, analysis in known_analyses().items() if analysis.default])


def _nested(settings: Settings) -> dict[str, Any]:
    """Settings as groups inside groups."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        *groups, name = key.split(".")
        inner = found
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[name] = value
    return found


def _part(owner: Any, name: str) -> Any:
    return owner[name] if isinstance(owner, dict) and name in owner else getattr(owner, name)
