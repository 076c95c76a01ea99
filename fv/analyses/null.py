"""Null: every contrast for vectors of relations without a function (docs/methods.md, "The null")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge

from fv.analyses.running.analysis import Analysis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fv.config import ScoreConfig
    from fv.evaluation.null import NullDraws
    from fv.runs.live_run import LiveRun
    from fv.tables import Tables


class NullScreen(StrEnum):
    """Screen of a draw's heads."""

    auto = "auto"
    """Screen by gradient if that is far cheaper than measuring all heads; like the run if the run is screened."""
    run = "run"
    """Screen or measure all heads, like the run."""
    gradient = "gradient"
    """Screen by gradient."""


@dataclass
class Null(Analysis):
    """Contrasts of vectors from relations with permuted outputs, and a permutation p for every relation."""

    draws: Annotated[int, Ge(20)] = 30
    """Total number of relations with permuted outputs, made from the run's relations in turn; 20 or more."""
    screen: NullScreen = NullScreen.auto
    """Screen of a draw's heads: `auto`, by gradient if that is cheaper; `run`, like the run; `gradient`."""

    reads: ClassVar[tuple[str, ...]] = ("eval_trials", "held_out", "contrasts", "headline", "effects", "injected")

    counts: ClassVar[tuple[str, ...]] = ("draws",)

    def units(self, run: "LiveRun") -> Sequence[Any]:
        qids = sorted(run.table("headline")["eval_qid"].unique())
        return [[qids[i % len(qids)], i // len(qids)] for i in range(self.draws)]

    def compute(self, run: "LiveRun", unit: Any) -> "Tables":
        q_id, number = unit
        return {"null_draws": self._null(run).draw(q_id, number)}

    def finish(self, run: "LiveRun", tables: "Tables") -> "Tables":
        import pandas as pd

        from fv.evaluation.null import contrasts_of, null_table, permutation_table

        headline, draws = run.table("headline"), tables["null_draws"]
        means, contrasts = run.table("held_out"), run.table("contrasts")
        # A draw gives no null for a vector on another relation than its own.
        of = {vector.name: vector.source_qid for vector in run.injected}
        every = headline[["fv", "eval_qid"]].itertuples(index=False, name=None)
        pairs = [(fv, q_id) for fv, q_id in every if of[fv] in (None, q_id)]
        observed = [contrasts_of(means, contrasts, fv, q_id).assign(fv=fv, eval_qid=q_id) for fv, q_id in pairs]
        found = permutation_table(pd.concat(observed), draws) if observed else permutation_table(draws.head(0), draws)
        return {"null": null_table(draws, run.stats), "null_p": found, "null_draws": draws}

    def summary(self, tables: "Tables") -> Any:
        # Single draws are in their table only.
        return super().summary({name: table for name, table in tables.items() if name != "null_draws"})

    def is_screened(self, score: "ScoreConfig", n_heads: int) -> bool:
        """Tell whether the heads of a draw are screened.

        Args:
            score: the run's settings.
            n_heads: number of heads that the run sweeps.
        """
        from fv.evaluation.null import is_cheaper_screened

        if self.screen is NullScreen.auto:
            return is_cheaper_screened(score, n_heads)
        return self.screen is NullScreen.gradient

    def figures(self, tables: "Tables") -> "Mapping[str, Figure]":
        from fv.figures.null import null_figure

        return {"null": null_figure(tables["null_draws"], tables["null_p"])}

    def _null(self, run: "LiveRun") -> "NullDraws":
        from fv.evaluation.null import NullDraws
        from fv.heads.ranking import heads_to_sweep

        score, data, lm = run.settings.score, run.settings.data, run.lm
        heads = heads_to_sweep(score.layers, score.heads, lm.n_layers, lm.n_heads)
        screened = self.is_screened(score, len(heads))
        rows = run.table("eval_trials").drop_duplicates("trial_id")
        parts = dict(zip(rows["trial_id"], rows["part"], strict=True))
        n_eval, n_mean = run.settings.injection.n_eval, data.n_mean_trials
        return NullDraws(run.evaluation, run.cells, parts, heads, score, n_eval, n_mean, screened)
