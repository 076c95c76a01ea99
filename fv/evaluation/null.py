"""Null: results of the whole evaluation for vectors without a function (docs/methods.md, "The null").

The outputs of a relation's fit pairs are permuted, and everything is computed again from them: means, effects, the
choice of heads, the vector, its refits, its controls, and every contrast on the same test trials.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pandas as pd

from fv.config import EvaluationConfig, ScoreConfig, Screen, StatsConfig
from fv.data.shuffled_relation import shuffled
from fv.evaluation.conditions import providers_of
from fv.evaluation.evaluation import Evaluation
from fv.evaluation.tables import ALL
from fv.heads.measurement import Measurement
from fv.heads.relations import effects_flow
from fv.heads.verification import fewest_verified
from fv.interventions.engine import Cell, Head, ScreeningEngine
from fv.statistics.intervals import clopper_pearson
from fv.vectors.function_vector import function_vector
from fv.work.driver import Serial
from fv.work.flow import Flow

CONTRAST = ["condition", "minus", "metric"]
ZERO_SHOT = {
    "delta_logprob": "logprob",
    "delta_logit_difference": "logit_difference",
    "delta_p": "p",
    "delta_answer_logprob": "answer_logprob",
    "delta_top1": "top1",
}
"""{metric of the change relative to the zero-shot prompt: the metric of the contrast with that prompt}."""
NUMBERS = ["n", "mean", "se", "ci_low", "ci_high"]
WORTH_SCREENING = 0.5
"""Share of heads below which a screen saves time, with the cost of its estimates included."""


@dataclass(frozen=True)
class NullDraws:
    """Maker of draws of the null, with all inputs that they share with the real evaluation.

    Attributes:
        evaluation: the real evaluation.
        cells: its (layer, alpha) cells.
        parts: {trial_id: `dev` or `test`} of its eval trials.
        heads: the heads that are swept.
        score: settings by which heads are measured and ranked.
        n_eval: number of eval trials per relation; None for all.
        n_mean_trials: number of fit trials whose prompts are averaged; None for all.
        screened: whether heads are screened, because that is cheaper than measuring all.
    """

    evaluation: Evaluation
    cells: Sequence[Cell]
    parts: Mapping[str, str]
    heads: Sequence[Head]
    score: ScoreConfig
    n_eval: int | None = None
    n_mean_trials: int | None = None
    screened: bool = False

    def draw(self, q_id: str, number: int) -> pd.DataFrame:
        """Run `flow`, and return its result."""
        return Serial(shown=False).run(self.flow(q_id, number), "null")

    def flow(self, q_id: str, number: int) -> Flow[pd.DataFrame]:
        """Build a relation's vector from permuted outputs, and evaluate it.

        Returns:
            one row per contrast and metric, over all test trials: condition, minus, metric, n, mean, se, ci_low,
            ci_high, q_id, draw; `minus` is `zero_shot` for the vector's own change.
        """
        run = self.evaluation
        snapshot = shuffled(run.snapshot, q_id, run.lm, number, run.seed)
        score = replace(self.score, screen=Screen.gradient) if self.screened else self.score
        # Controls and resamples get random draws of their own.
        seed = run.seed + 1 + number
        engine = cast(ScreeningEngine, run.engine)  # every engine is one
        how = Measurement(run.lm, snapshot, self.heads, engine, score, seed, self.n_mean_trials)
        effects = yield from effects_flow(how, run.stats)
        vector = function_vector(run.lm, effects[q_id], run.ranking.k, key=run.ranking.key)
        settings = own_conditions(run.settings)
        again = replace(run, snapshot=snapshot, effects=effects, seed=seed, settings=settings)
        found = yield from again.grid_flow([(vector, [q_id])], self.cells, self.parts, self.n_eval)
        tables = again.results(found, (yield from again.held_out_flow(found))).tables
        return contrasts_of(tables["held_out"], tables["contrasts"], vector.name, q_id).assign(q_id=q_id, draw=number)


def own_conditions(settings: EvaluationConfig) -> EvaluationConfig:
    """Disable the conditions that depend on other relations, since a draw has one relation only."""
    providers = providers_of(settings.conditions)
    kept = {name: replace(p, enabled=p.enabled and not p.made_of_others) for name, p in providers.items()}
    return replace(settings, conditions=kept)


def is_cheaper_screened(score: ScoreConfig, n_heads: int) -> bool:
    """Tell whether a screen of one relation would measure far fewer heads than there are."""
    fewest = fewest_verified(n_heads, score.n_verify, score.verify_random)
    return score.screen is Screen.none and not score.adaptive and fewest <= WORTH_SCREENING * n_heads


def contrasts_of(means: pd.DataFrame, contrasts: pd.DataFrame, fv: str, q_id: str) -> pd.DataFrame:
    """Contrasts of a vector on a relation over all test trials, and its change relative to the zero-shot prompt.

    Args:
        means: `held_out.csv`.
        contrasts: `contrasts.csv`.
        fv: the vector's name.
        q_id: the relation.
    """
    own = means[(means["condition"] == "fv") & means["metric"].isin(list(ZERO_SHOT))]
    change = own.assign(minus="zero_shot", metric=own["metric"].map(ZERO_SHOT))
    both = pd.concat([table[[*CONTRAST, *NUMBERS, "fv", "eval_qid", "subset"]] for table in (change, contrasts)])
    here = both[(both["fv"] == fv) & (both["eval_qid"] == q_id) & (both["subset"] == ALL)]
    return here[[*CONTRAST, *NUMBERS]].sort_values(CONTRAST, ignore_index=True)


def null_table(draws: pd.DataFrame, stats: StatsConfig) -> pd.DataFrame:
    """Distribution of every contrast under the null, one row per (condition, minus, metric).

    Args:
        draws: rows of `NullDraws.draw`, of all relations.
        stats: the level of the intervals.

    Returns:
        condition, minus, metric, `n_draws`, and mean, sd, lowest and highest of the draws; `excludes_zero`, the share
        of draws whose interval excludes 0, with its interval (Clopper and Pearson); `above_zero`, the share of draws
        whose interval lies above 0.
    """
    rows = []
    for key, own in draws.groupby(CONTRAST, sort=True):
        known = own.dropna(subset=["ci_low", "ci_high"])
        above, below = (known["ci_low"] > 0), (known["ci_high"] < 0)
        n = len(known)
        low, high = clopper_pearson(np.array([(above | below).sum()]), max(n, 1), stats.confidence)
        share = float((above | below).mean()) if n else np.nan
        rows.append(
            {
                **dict(zip(CONTRAST, key, strict=True)),
                "n_draws": len(own),
                "mean": own["mean"].mean(),
                "sd": own["mean"].std(ddof=1),
                "lowest": own["mean"].min(),
                "highest": own["mean"].max(),
                "excludes_zero": share,
                "excludes_zero_ci_low": float(low[0]) if n else np.nan,
                "excludes_zero_ci_high": float(high[0]) if n else np.nan,
                "above_zero": float(above.mean()) if n else np.nan,
            }
        )
    return pd.DataFrame(rows)


def permutation_table(observed: pd.DataFrame, draws: pd.DataFrame) -> pd.DataFrame:
    """Permutation test of every observed contrast against its null.

    Draws of all relations are pooled, although relations differ in scale. Therefore the test statistic is the mean
    divided by its standard error, which includes the spread of refits and of the control's draws. The one-sided p is
    (1 + number of draws at least as extreme) / (1 + number of draws); its least value is 1 / (1 + number of draws).

    Args:
        observed: rows of `contrasts_of` with the columns `fv` and `eval_qid`.
        draws: rows of `NullDraws.draw`, of all relations.

    Returns:
        fv, eval_qid, condition, minus, metric, mean, t, `null_mean`, `n_draws`, `p_greater`, `p_less`.
    """
    null = dict(iter(_with_t(draws).groupby(CONTRAST)))
    rows = []
    for row in _with_t(observed).to_dict("records"):
        own = null.get(tuple(row[name] for name in CONTRAST))
        if own is None or np.isnan(row["t"]) or own["t"].isna().all():
            continue
        t = own["t"].dropna().to_numpy()
        n = len(t)
        rows.append(
            {name: row[name] for name in ("fv", "eval_qid", *CONTRAST, "mean", "t")}
            | {
                "null_mean": own["mean"].mean(),
                "n_draws": n,
                "p_greater": (1 + int((t >= row["t"]).sum())) / (1 + n),
                "p_less": (1 + int((t <= row["t"]).sum())) / (1 + n),
            }
        )
    columns = ["fv", "eval_qid", *CONTRAST, "mean", "t", "null_mean", "n_draws", "p_greater", "p_less"]
    return pd.DataFrame(rows, columns=columns)


def _with_t(rows: pd.DataFrame) -> pd.DataFrame:
    """Add `t`, the mean divided by its standard error: 0 if both are 0, missing if only the standard error is 0."""
    se, mean = rows["se"].to_numpy(dtype=float), rows["mean"].to_numpy(dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(se > 0, mean / se, np.where(mean == 0, 0.0, np.nan))
    return rows.assign(t=t)
