"""Baselines: every way to make a vector, on the run's held-out trials (docs/methods.md, "Baselines")."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt

from fv.analyses.running.analysis import Analysis
from fv.evaluation.unrelated_texts import N_TEXTS, read_unrelated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fv.evaluation.baselines import Baselines as Comparison
    from fv.runs.live_run import LiveRun
    from fv.tables import Tables
    from fv.vectors.maker import Maker
    from fv.work.flow import Flow


@dataclass
class Baselines(Analysis):
    """Every way to make a vector, with the same fit, dev and test trials: effect, accuracy, cost, and differences."""

    makers: list[str] | None = None
    """Names of makers; null for all that need no setting. `function_vector` is always among them."""
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Settings of makers: {maker: {setting: value}}."""
    n_texts: Annotated[int, Ge(1)] = N_TEXTS
    """Number of unrelated texts on which cost is measured."""
    texts_path: str | None = None
    """UTF-8 file with one unrelated text per line; null for the project's own."""
    budget: Annotated[float, Gt(0)] = 0.1
    """Highest mean KL divergence on unrelated texts, in nats, of the choice within a budget of harm."""

    reads: ClassVar[tuple[str, ...]] = ("eval_trials", "held_out_trials", "effects")

    def check(self) -> None:
        self.every_maker()
        self._texts()

    def every_maker(self) -> "dict[str, Maker]":
        """The makers, {name: maker}; the reference comes first.

        Raises:
            ConfigError: a name or a setting is unknown.
        """
        from fv.vectors.makers import REFERENCE, known_without_settings, makers_of

        named = [*known_without_settings(), *self.settings] if self.makers is None else self.makers
        return makers_of([REFERENCE, *named], self.settings)

    def flow(self, run: "LiveRun") -> "Flow[Tables]":
        qids = sorted(run.table("held_out_trials")["eval_qid"].unique())
        return self.comparison(run).flow(qids)

    def comparison(self, run: "LiveRun") -> "Comparison":
        """The comparison of the makers on the trials of a run."""
        from fv.evaluation.baselines import Baselines as Comparison
        from fv.evaluation.cost import encoded_alike

        rows = run.table("eval_trials").drop_duplicates("trial_id")
        parts = dict(zip(rows["trial_id"], rows["part"], strict=True))
        texts = encoded_alike(run.lm, self._texts(), run.snapshot.meta.add_special_tokens)
        return Comparison(run.evaluation, self.every_maker(), run.cells, parts, texts, self.budget)

    def finish(self, run: "LiveRun", tables: "Tables") -> "Tables":
        from fv.evaluation.baseline_tables import baseline_tables, notes_of

        return baseline_tables(tables, notes_of(self.every_maker()), run.snapshot, run.stats, run.seed)

    def summary(self, tables: "Tables") -> Any:
        return super().summary({"baselines": tables["baselines"]})

    def figures(self, tables: "Tables") -> "Mapping[str, Figure]":
        from fv.figures.baselines import baselines_figure

        return {"baselines": baselines_figure(tables["baselines"])}

    def _texts(self) -> list[str]:
        return read_unrelated(self.n_texts, self.texts_path, (self.called("n_texts"), self.called("texts_path")))
