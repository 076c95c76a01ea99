"""Unfinished step: what a worker reports of it to the process that gives out units, as JSON."""

from typing import Any, TypedDict


class UnitToCompute(TypedDict):
    """A missing unit (`fv.work.driver.MissingUnit`), as JSON: its name is [kind, relation, place]."""

    job: int
    place: int
    key: str
    unit: list[str]
    at_once: int
    cost: float


class Unfinished(TypedDict):
    """A step that cannot continue, and the missing units of one of its stages (`fv.work.driver.Missing`), as JSON."""

    step: str
    title: str
    about: Any
    stage: str
    number: int
    units: list[UnitToCompute]
