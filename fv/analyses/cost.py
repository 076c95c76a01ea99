"""Injection cost: the change that every condition causes in unrelated texts (docs/methods.md)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge

from fv.analyses.running.analysis import Analysis
from fv.evaluation.unrelated_texts import N_TEXTS, read_unrelated

if TYPE_CHECKING:
    from fv.runs.live_run import LiveRun
    from fv.tables import Tables


@dataclass
class Cost(Analysis):
    """Cost of each condition at its own cell: the change that it causes in the next token of unrelated texts."""

    n_texts: Annotated[int, Ge(0)] = N_TEXTS
    """Number of unrelated texts; 0 for none."""
    texts_path: str | None = None
    """UTF-8 file with one unrelated text per line; null for the project's own."""

    reads: ClassVar[tuple[str, ...]] = ("eval_trials", "held_out_trials", "injected", "effects")
    default: ClassVar[bool] = True
    summary_key: ClassVar[str] = "injection_cost"

    def check(self) -> None:
        self._texts()

    def units(self, run: "LiveRun") -> Sequence[str]:
        return sorted(run.table("held_out_trials")["eval_qid"].unique()) if self.n_texts else []

    def compute(self, run: "LiveRun", unit: str) -> "Tables":
        from fv.evaluation.cost import encoded_alike

        trials = run.table("held_out_trials")
        texts = encoded_alike(run.lm, self._texts(), run.snapshot.meta.add_special_tokens)
        return {"costs": run.evaluation.costs(unit, run.injected, run.cells, trials, texts)}

    def finish(self, run: "LiveRun", tables: "Tables") -> "Tables":
        from fv.evaluation.tables import cost_table

        if not tables:
            return {}
        trials = run.table("held_out_trials")
        return {"injection_cost": cost_table(tables["costs"], trials, run.stats, run.seed)}

    def summary(self, tables: "Tables") -> Any:
        from fv.evaluation.summary import records

        return records(tables["injection_cost"]) if tables else []

    def _texts(self) -> list[str]:
        return read_unrelated(self.n_texts, self.texts_path, (self.called("n_texts"), self.called("texts_path")))
