"""Ranking stability: the certainty of each head's place in the top k (docs/methods.md, "Stability of a ranking")."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fv.analyses.running.analysis import Analysis
from fv.errors import shorten

if TYPE_CHECKING:
    from fv.heads.stability import StabilityReport, StabilitySummary
    from fv.runs.live_run import LiveRun
    from fv.tables import TableRow, Tables

log = logging.getLogger(__name__)
GAP = {"mean": "gap", "ci_low": "gap_ci_low", "ci_high": "gap_ci_high", "n_within_error": "n_within_error"}
"""{key of a report on the gap at k: its column}."""


@dataclass
class RankingStability(Analysis):
    """Certainty of each head's place in the top k, and its growth with the number of trials."""

    after: ClassVar[str] = "StepE"
    reads: ClassVar[tuple[str, ...]] = ("effects", "vectors")
    default: ClassVar[bool] = True
    quick: ClassVar[bool] = True

    def units(self, run: "LiveRun") -> Sequence[str | None]:
        return [None, *run.effects.qids]

    def compute(self, run: "LiveRun", unit: str | None) -> "Tables":
        import pandas as pd

        from fv.vectors.rankings import stability_of

        found = stability_of(run.effects, unit, run.ranking, run.stats, run.seed)
        ((name, report),) = found.reports.items()
        numbers = {key: report[key] for key in ("n_trials", "mean_inclusion", "lowest_inclusion")}
        gap = {column: (report["gap"] or {}).get(key) for key, column in GAP.items()}
        row = {"ranking": name, "score_key": run.ranking.key, "k": run.ranking.k, **numbers, **gap}
        types = dict.fromkeys(GAP.values(), float) | {"n_within_error": "Int64"}
        curve = pd.DataFrame(report["convergence"], columns=_points())
        return {
            "ranking_stability": pd.DataFrame([row]).astype(types),
            "convergence": curve.astype(dict.fromkeys(_points()[1:], float)).assign(ranking=name),
            "head_stability": found.heads,
        }

    def finish(self, run: "LiveRun", tables: "Tables") -> "Tables":
        """Return the tables, and log in one line the rankings in which k cuts through a tie."""
        rows = tables["ranking_stability"]
        tied = rows[(rows["gap_ci_low"] <= 0) & (rows["gap_ci_high"] >= 0)]["ranking"].tolist()
        if tied:
            log.info(
                f"k={run.ranking.k} cuts through a tie in {len(tied)} of {len(rows)} rankings ({shorten(tied)}): the "
                "next head is within error of the last that was taken. ranking_stability.csv has the gaps."
            )
        return tables

    def summary(self, tables: "Tables") -> "StabilitySummary":
        from fv.evaluation.summary import records

        curves: dict[str, list[TableRow]] = defaultdict(list)
        for point in records(tables["convergence"]):
            curves[point.pop("ranking")].append(point)
        rows = records(tables["ranking_stability"])
        reports = {row["ranking"]: _report(row, curves[row["ranking"]]) for row in rows}
        return {"score_key": rows[0]["score_key"], "k": rows[0]["k"], "rankings": reports}


def _points() -> list[str]:
    from dataclasses import fields

    from fv.heads.stability import Convergence

    return [own.name for own in fields(Convergence)]


def _report(row: "TableRow", curve: list["TableRow"]) -> "StabilityReport":
    """Rebuild the JSON of `fv.heads.stability.stability_report` from its tables."""
    halves = [point for point in curve if point["overlap_apart"] is not None]
    return {
        "n_trials": row["n_trials"],
        "mean_inclusion": row["mean_inclusion"],
        "lowest_inclusion": row["lowest_inclusion"],
        "split_half": halves[-1] if halves else None,
        "gap": {key: row[column] for key, column in GAP.items()} if row["gap"] is not None else None,
        "convergence": curve,
    }
