"""The limits of one page: a run that has more is cut there, with a notice."""

from typing import NamedTuple


class Limits(NamedTuple):
    """How much a page holds.

    Attributes:
        relations: with figures, panels or rows of their own.
        names: relations in a matrix.
        findings: relations with sentences of their own.
        rows: of one table.
        trials: in the browser of trials, evenly over relations.
        letters: of one text of a trial.
    """

    relations: int = 12
    names: int = 60
    findings: int = 60
    rows: int = 400
    trials: int = 800
    letters: int = 1500


LIMITS = Limits()
