"""Base of analyses: settings, units, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fv.config.group import Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fv.runs.live_run import LiveRun
    from fv.tables import Tables
    from fv.work.flow import Flow

EVERYTHING = "all"
"""Unit of an analysis that has only one."""


@dataclass
class Analysis(Group):
    """An analysis of a finished run; the fields are its settings, each with a default.

    The same settings and results give the same tables: random draws use `run.seed`. Its module is imported wherever
    settings are checked, so torch and pandas are imported only inside its methods.
    """

    after: ClassVar[str] = "Step6"
    """The last step whose results it reads: `StepD`, `StepE` or `Step6`."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Its inputs: names of tables; `trials`, `effects` and `vectors` (StepE's); and `injected`, the vectors that Step6
    injected. If an input changes, the analysis is made again."""
    default: ClassVar[bool] = False
    """True if its step runs it by default, unless other analyses are named."""
    quick: ClassVar[bool] = False
    """True if its units take less time than their distribution to workers; then one worker computes all of them."""
    counts: ClassVar[tuple[str, ...]] = ()
    """Settings that decide only the number of units; finished units stay valid if they change."""
    summary_key: ClassVar[str] = ""
    """Key of its results in Step6's summary, if Step6 runs it; its own name by default."""

    def check(self) -> None:
        """Refuse impossible settings before anything is computed.

        Raises:
            ConfigError: a setting is not possible; the message names it.
        """

    def units(self, run: LiveRun) -> Sequence[Any]:
        """List its units, each kept when finished: relations, vectors, or pairs of them, as JSON values."""
        return [EVERYTHING]

    def compute(self, run: LiveRun, unit: Any) -> Tables:
        """Compute the tables of one unit, by name; tables of the same name are joined over units."""
        raise NotImplementedError

    def flow(self, run: LiveRun) -> Flow[Tables] | None:
        """Stages of its own, whose result goes to `finish`; None if its units are those of `units` and `compute`.

        Everything that a unit depends on besides the model has to be in its `Unit.depends_on`.
        """
        return None

    def finish(self, run: LiveRun, tables: Tables) -> Tables:
        """Make the analysis's tables, by name, from the units' tables, which are joined in the order of units."""
        return tables

    def summary(self, tables: Tables) -> Any:
        """Summarize its results as one JSON value."""
        from fv.evaluation.summary import records

        return {name: records(table) for name, table in tables.items()}

    def figures(self, tables: Tables) -> Mapping[str, Figure]:
        """Draw its figures, by name, from its tables."""
        return {}
