"""Limits of a run's page: more is cut, with a notice."""

from typing import NamedTuple


class Limits(NamedTuple):
    """Largest numbers of things on one page.

    Attributes:
        relations: relations with figures, panels or rows of their own.
        names: relations in a matrix.
        findings: relations with sentences of their own.
        rows: rows of a table.
        trials: trials in the browser of trials, spread evenly over relations.
        letters: characters of one text of a trial.
    """

    relations: int = 12
    names: int = 60
    findings: int = 60
    rows: int = 400
    trials: int = 800
    letters: int = 1500


LIMITS = Limits()
