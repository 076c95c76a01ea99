"""Results of a run for its page: look-ups in its tables, mostly on each relation's own vector."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import pandas as pd

from fv.evaluation.eval_summary import EvalSummary
from fv.evaluation.summary import records
from fv.evaluation.tables import ALL, NO_VECTOR
from fv.heads.screen_report import ScreenReport
from fv.heads.stability import StabilitySummary
from fv.report.headline import null_ps
from fv.report.screen import screen_report_of
from fv.report.summary import Summary
from fv.runs.run import Run
from fv.tables import TableRow
from fv.vectors.kinds import OWN
from fv.vectors.names import ranking_name, source_name


class TestMean(NamedTuple):
    """Mean over n test trials or texts, with its interval; the ends are None if there is none."""

    mean: float
    ci_low: float | None
    ci_high: float | None
    n: int

    @classmethod
    def of(cls, row: TableRow) -> "TestMean":
        return cls(*(row[name] for name in cls._fields))


@dataclass(frozen=True, eq=False)
class RunResults:
    """Tables of a run, restricted to the subset of all test trials, and mostly to each relation's own vector.

    Attributes:
        run: the run.
    """

    run: Run

    @cached_property
    def q_ids(self) -> list[str]:
        """Relations of the run, in the order of the trials."""
        return list(self.run.trials)

    @cached_property
    def summary(self) -> EvalSummary | None:
        """`eval_summary.json`; None if there is none."""
        return self.run.summary if "eval_trials" in self.run.tables else None

    @cached_property
    def closing(self) -> Summary:
        """Look-ups in `summary`, as for the closing table."""
        assert self.summary
        return Summary(self.summary)

    @cached_property
    def stability(self) -> StabilitySummary | None:
        """`ranking_stability.json`; None if there is none."""
        return self.run.record("ranking_stability") if "head_stability" in self.run.tables else None

    @cached_property
    def screen(self) -> ScreenReport | None:
        """`screen_report.json`; None if all heads were measured."""
        return screen_report_of(self.run)

    @cached_property
    def shape(self) -> tuple[int, int] | None:
        """Numbers of layers and heads of a screened run, as its tables of effects may lack the last ones; else None."""
        screened = self.table("screen_scores")
        return (int(screened["layer"].max()) + 1, int(screened["head"].max()) + 1) if len(screened) else None

    @property
    def confidence(self) -> float:
        """Level of all intervals."""
        return self.run.config.stats.confidence

    @property
    def k(self) -> int:
        """Number of heads of a vector, unless `injection.k` gives several numbers."""
        return int(self.stability["k"]) if self.stability else self.run.config.score.k

    @property
    def missing(self) -> list[str]:
        """Sentences on steps that have not run or are stale."""
        found = [*self.run.stale]
        if "StepE" not in self.run.steps:
            found.append("StepE has not run: there are no vectors.")
        if "Step6" in self.run.steps and not self.summary:
            return found
        if not self.summary:
            found.append("Step6 has not run: nothing was injected.")
        elif "held_out" not in self.run.tables:
            found.append("Step6 ran only its grid: there are no controls, no baselines and no answers.")
        return found

    @cached_property
    def chosen(self) -> pd.DataFrame:
        """Chosen cell of each (vector, relation), with its effects on test trials; empty before Step6."""
        return pd.DataFrame(self.summary.chosen if self.summary else [])

    @cached_property
    def of_each_k(self) -> pd.DataFrame:
        """Rows of `chosen` for each relation's own vectors of every k."""
        if self.chosen.empty or "mean_delta_logprob" not in self.chosen:
            return self.chosen.head(0)
        own = self.chosen["eval_qid"].map(lambda q_id: source_name(OWN.name, q_id)) == self.chosen["fv_source"]
        return self.chosen[own].reset_index(drop=True)

    @cached_property
    def own(self) -> pd.DataFrame:
        """Rows of `chosen` for each relation's own vector with the k that dev trials choose, one row per relation."""
        rows = self.of_each_k
        if len(rows) and rows["best_k"].notna().any():
            rows = rows[rows["best_k"].eq(True)]
        return rows.drop_duplicates("eval_qid").reset_index(drop=True) if len(rows) else rows

    def table(self, name: str) -> pd.DataFrame:
        """Table of the run, restricted to the subset of all test trials; empty if there is no such table."""
        if name not in self._tables:
            table = self.run.table(name) if name in self.run.tables else pd.DataFrame()
            self._tables[name] = table[table["subset"] == ALL].drop(columns="subset") if "subset" in table else table
        return self._tables[name]

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        """Tables that `table` has read so far."""
        return {}

    @cached_property
    def held_out(self) -> pd.DataFrame:
        """`held_out.csv` for all test trials."""
        return self.table("held_out")

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """`contrasts.csv` for all test trials and each relation's own vector."""
        return self.of_own(self.table("contrasts"))

    @cached_property
    def heads(self) -> pd.DataFrame:
        """`head_stability.csv` with a column `chosen`, true for heads among the ranking's top k."""
        table = self.table("head_stability")
        return table.assign(chosen=table["rank"] <= self.k) if len(table) else table

    @cached_property
    def relation_of_vector(self) -> dict[str, str]:
        """{name of a relation's own vector: the relation}, for the rows of `own`."""
        return dict(zip(self.own["fv"], self.own["eval_qid"], strict=True)) if len(self.own) else {}

    @cached_property
    def q_id_of_ranking(self) -> dict[str, str]:
        """{name of a relation's ranking: the relation}."""
        return {ranking_name(q_id): q_id for q_id in self.q_ids}

    def of_own(self, table: pd.DataFrame, unpaired: bool = False) -> pd.DataFrame:
        """Select the rows of each relation's own vector on it; with `unpaired`, also the rows without a vector."""
        if table.empty or self.own.empty:
            return table.head(0)
        pairs = set(zip(self.own["fv"], self.own["eval_qid"], strict=True))
        found = [(fv, on) in pairs or (unpaired and fv == NO_VECTOR) for fv, on in table[["fv", "eval_qid"]].to_numpy()]
        return table[found].reset_index(drop=True)

    def measured(self, q_id: str, condition: str, metric: str, fv: str = NO_VECTOR) -> TestMean | None:
        """Metric of a condition on a relation's test trials; for several draws, their mean alone."""
        rows = self._measured.get((q_id, condition, metric, fv))
        if rows is None:
            return None
        if len(rows) == 1:
            return TestMean.of(rows[0])
        return TestMean(sum(row["mean"] for row in rows) / len(rows), None, None, rows[0]["n"])

    def difference(self, q_id: str, minus: str) -> TestMean | None:
        """Own vector's log p minus a condition's; None if it is missing."""
        return self._differences.get((q_id, minus))

    @cached_property
    def headline(self) -> dict[str, TableRow]:
        """{relation: the row of `headline.csv` of its own vector}; empty if no conditions were run."""
        if "headline" not in self.run.tables:
            return {}
        rows = records(self.run.table("headline"))
        return {row["eval_qid"]: row for row in rows if self.relation_of_vector.get(row["fv"]) == row["eval_qid"]}

    @cached_property
    def null(self) -> dict[tuple[str, str], tuple[float, int]]:
        """{(vector, relation): (p of the declared contrast under the null, number of draws)}."""
        return null_ps(self.run)

    def cost(self, q_id: str) -> TestMean | None:
        """Own vector's KL divergence on n unrelated texts at its chosen cell; None if it is missing."""
        return self._costs.get(q_id)

    @cached_property
    def _costs(self) -> dict[str, TestMean]:
        own = self.of_own(self.table("injection_cost"))
        return {row["eval_qid"]: TestMean.of(row) for row in records(own) if row["condition"] == "fv"}

    @cached_property
    def _measured(self) -> dict[tuple[str, str, str, str], list[TableRow]]:
        found: dict[tuple[str, str, str, str], list[TableRow]] = {}
        for row in records(self.of_own(self.held_out, unpaired=True)):
            found.setdefault((row["eval_qid"], row["condition"], row["metric"], row["fv"]), []).append(row)
        return found

    @cached_property
    def _differences(self) -> dict[tuple[str, str], TestMean]:
        if self.contrasts.empty:
            return {}
        rows = self.contrasts[(self.contrasts["condition"] == "fv") & (self.contrasts["metric"] == "logprob")]
        return {(row["eval_qid"], row["minus"]): TestMean.of(row) for row in records(rows)}
