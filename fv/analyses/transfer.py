"""Transfer: each relation's vector on each relation (docs/methods.md, "Transfer")."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fv.analyses.running.analysis import Analysis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fv.runs.live_run import LiveRun
    from fv.tables import Tables


@dataclass
class Transfer(Analysis):
    """Each relation's vector on each relation: effects, cosines, and the dominance of the diagonal."""

    reads: ClassVar[tuple[str, ...]] = ("held_out_trials", "held_out", "contrasts", "injected")
    default: ClassVar[bool] = True
    quick: ClassVar[bool] = True

    def compute(self, run: "LiveRun", unit: str) -> "Tables":
        from fv.evaluation.transfer import transfer_tables

        trials, means, contrasts = (run.table(name) for name in self.reads[:3])
        clusters = run.trials.snapshot.meta.clusters
        return transfer_tables(trials, means, contrasts, run.injected, run.stats, run.seed, clusters)

    def summary(self, tables: "Tables") -> Any:
        from fv.evaluation.summary import records
        from fv.evaluation.transfer import dominance_as_json

        return {"dominance": dominance_as_json(tables), "rows": records(tables["transfer"])}

    def figures(self, tables: "Tables") -> "Mapping[str, Figure]":
        from fv.figures.transfer import transfer_heatmap

        return {"transfer_matrix": transfer_heatmap(tables["transfer"])}
