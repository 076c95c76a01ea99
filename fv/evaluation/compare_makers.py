"""Comparison of ways to make a vector in a notebook: the public face of `fv.evaluation.baselines`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from fv.characters import visible
from fv.config import EvaluationConfig, StatsConfig
from fv.config.checks import check_at_least, parse_alphas, parse_indices
from fv.data.origin import check_origin
from fv.data.trials import Trials
from fv.errors import ConfigError, shorten
from fv.evaluation.baseline_tables import OVERALL, baseline_tables, notes_of
from fv.evaluation.baselines import BEST, BUDGET, Baselines
from fv.evaluation.conditions import only
from fv.evaluation.cost import encoded_alike
from fv.evaluation.evaluation import Evaluation
from fv.evaluation.grid import eval_parts
from fv.evaluation.unrelated_texts import N_TEXTS, read_unrelated
from fv.heads.effects import KEYS, Effects, checked_key
from fv.heads.ranking import Ranking, choose_indices
from fv.heads.relations import snapshot_for
from fv.interventions.compute import DEFAULT, Compute, checked_compute
from fv.interventions.engine import Cell
from fv.markup import frame
from fv.models.language_model import LanguageModel
from fv.progress import bars
from fv.vectors.makers import REFERENCE, known_without_settings, makers_of
from fv.work.driver import SERIAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = ["label", "delta_logprob", "accuracy", "kl", "d_ntp", "minus_reference", "minus_few_shot", "n_options"]


@dataclass(frozen=True, eq=False)
class MakerComparison:
    """Results of all ways to make a vector that were compared.

    Attributes:
        table: one row per (relation, maker, choice), and for the mean over relations (`eval_qid` is empty).
        means: mean of every metric, with its interval.
        contrasts: differences from the function vector and from the prompt with examples, with their intervals.
        stats: level, resamples and method of the intervals.

    Example:
        >>> found = fv.baselines(lm, trials, effects, ["mean_difference"], layers=[11, 17])
        >>> sorted({*found.table["choice"]})
        ['best', 'within_budget']
    """

    table: pd.DataFrame
    means: pd.DataFrame
    contrasts: pd.DataFrame
    stats: StatsConfig

    def plot(self) -> "Figure":
        """Plot effect, cost and distance from the prompt with examples, of every maker.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from fv.figures.baselines import baselines_figure

        return baselines_figure(self.table, confidence=self.stats.confidence)

    @property
    def summary(self) -> pd.DataFrame:
        """The main columns of the best choices: for the mean over relations, or for the single relation."""
        overall = self.table[self.table["eval_qid"] == OVERALL]
        rows = overall if len(overall) else self.table
        return rows.loc[rows["choice"] == BEST, SHOWN].reset_index(drop=True)

    def __repr__(self) -> str:
        return visible(self.summary.to_string(index=False, float_format=lambda value: f"{value:.3g}"))

    def _repr_html_(self) -> str:
        return frame(self.summary)


def baselines(  # noqa: PLR0913 - each is a choice of its own
    lm: LanguageModel,
    trials: Trials,
    effects: Effects,
    makers: Sequence[str] | None = None,
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    layers: str | int | Sequence[int] = "all",
    alphas: float | Sequence[float] = 1.0,
    k: int = 10,
    key: str = KEYS[0],
    budget: float = BUDGET,
    dev_fraction: float = EvaluationConfig.dev_fraction,
    n_unrelated: int = N_TEXTS,
    confidence: float = StatsConfig.confidence,
    seed: int | None = None,
    compute: Compute = DEFAULT,
) -> MakerComparison:
    """Compare ways to make a vector on the same held-out trials (docs/methods.md, "Baselines").

    Every maker sees the fit trials. One part of the held-out trials, `dev`, chooses layer and strength, twice: for the
    effect alone, and within a budget of harm on unrelated texts. All numbers come from the other part, `test`.

    Args:
        lm: the model.
        trials: trials of one or several relations.
        effects: effects of these relations, from `fv.indirect_effects`.
        makers: names of makers; None for all that need no setting. `function_vector` is always among them.
        settings: settings of makers: {maker: {setting: value}}.
        layers: `all`, one block, or a list of blocks, after which vectors are added.
        alphas: one strength or several.
        k: number of heads, for makers that take the best heads.
        key: the column that ranks heads.
        budget: highest mean KL divergence on unrelated texts, in nats, of the second choice.
        dev_fraction: the share of held-out trials that choose.
        n_unrelated: number of unrelated texts, 1 or more.
        confidence: level of the intervals.
        seed: seed of every draw; None for the seed of `trials`.
        compute: engine, memory and progress bars.

    Raises:
        ConfigError: an argument is out of range, a maker or a setting is unknown, or the effects come from another
            model.
        TrialError: `trials` hold no held-out trials or too few to choose on, or were tokenised by another tokenizer.

    Example:
        >>> found = fv.baselines(lm, trials, effects, ["mean_difference"], layers=[11, 17])
        >>> sorted({*found.table["condition"]})
        ['few_shot', 'few_shot_corrupted', 'function_vector', 'mean_difference', 'zero_shot']
    """
    snapshot = snapshot_for(lm, trials, "eval")
    if not isinstance(effects, Effects):
        raise ConfigError(f"effects is a {type(effects).__name__}; pass the effects that fv.indirect_effects returns.")
    if lacking := sorted({*snapshot.qids} - {*effects.qids}):
        raise ConfigError(f"effects lack {shorten(lacking)}: measure all relations of the trials.")
    check_origin("effects are", effects.origin, lm, snapshot)
    check_at_least("n_unrelated", n_unrelated, 1)
    if not budget > 0:
        raise ConfigError(f"budget={budget!r} must be above 0 nats.")
    if not dev_fraction:
        raise ConfigError("dev_fraction=0 leaves no trials to choose layers and strengths on.")
    named = known_without_settings() if makers is None else makers
    every = makers_of([REFERENCE, *named], settings)
    blocks = choose_indices(parse_indices("layers", layers), lm.n_layers, "layers")
    cells = [Cell(layer, alpha) for layer in blocks for alpha in parse_alphas("alphas", alphas)]
    stats, own_seed = StatsConfig(confidence=confidence), snapshot.meta.seed if seed is None else seed
    evaluation = Evaluation(
        lm=lm,
        engine=checked_compute(compute).engine_for(lm),
        snapshot=snapshot,
        settings=EvaluationConfig(dev_fraction=dev_fraction, conditions=only([])),
        ranking=Ranking(checked_key(key), k),
        effects=effects,
        stats=stats,
        seed=own_seed,
    )
    parts = eval_parts(snapshot, snapshot.qids, None, dev_fraction, own_seed)
    unrelated = read_unrelated(n_unrelated, names=("n_unrelated", "path"))
    texts = encoded_alike(lm, unrelated, snapshot.meta.add_special_tokens)
    comparison = Baselines(evaluation, every, cells, parts, texts, budget)
    with bars(compute.progress):
        found = SERIAL.run(comparison.flow(snapshot.qids), "Baselines")
    tables = baseline_tables(found, notes_of(every), snapshot, stats, own_seed)
    return MakerComparison(tables["baselines"], tables["baseline_means"], tables["baseline_contrasts"], stats)
