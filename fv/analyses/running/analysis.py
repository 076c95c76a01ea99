"""What an analysis is: its settings, the pieces it is made of, its tables and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fv.config.group import Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fv.runs.live_run import LiveRun
    from fv.tables import Tables

EVERYTHING = "all"
"""The unit of an analysis that is made in one piece."""


@dataclass
class Analysis(Group):
    """An analysis of a finished run; the fields are its settings, each with a default.

    The same settings and results give the same tables: what is drawn at random is drawn with `run.seed`. Its module is
    imported wherever settings are checked: what needs torch or pandas is imported in the methods.
    """

    after: ClassVar[str] = "Step6"
    """The last step whose results it reads: `StepD`, `StepE` or `Step6`."""
    reads: ClassVar[tuple[str, ...]] = ()
    """What it reads: tables by their names; `trials`, `effects` and `vectors` (StepE's), and `injected`, the vectors
    that Step6 injected. It is made again where they change."""
    default: ClassVar[bool] = False
    """Whether it is run after its step unless other analyses are named."""
    quick: ClassVar[bool] = False
    """Whether its units take less time than it takes to give them to workers: one makes them all."""
    counts: ClassVar[tuple[str, ...]] = ()
    """Settings that say how many units there are and no more: with others, finished units stay."""
    summary_key: ClassVar[str] = ""
    """Under which key the summary of Step6 shows it, where it is run by Step6; its own name unless given."""

    def check(self) -> None:
        """Refuse settings that cannot be met, before anything is computed.

        Raises:
            ConfigError: naming the setting.
        """

    def units(self, run: LiveRun) -> Sequence[Any]:
        """The pieces it is made of, each kept once finished: relations, vectors, pairs of them, as JSON values."""
        return [EVERYTHING]

    def compute(self, run: LiveRun, unit: Any) -> Tables:
        """The tables of one unit, by name; a table of the same name in several units is one table."""
        raise NotImplementedError

    def finish(self, run: LiveRun, tables: Tables) -> Tables:
        """What the analysis comes to: its tables by name, from those of all units, joined in the order of units."""
        return tables

    def summary(self, tables: Tables) -> Any:
        """What it found, as one JSON value."""
        from fv.evaluation.summary import records

        return {name: records(table) for name, table in tables.items()}

    def figures(self, tables: Tables) -> Mapping[str, Figure]:
        """Its figures by name, drawn from its tables."""
        return {}
