"""Tables of what chosen injections do on test trials, beside controls and baselines (docs/methods.md).

All of them come from trial rows alone, one row a (fv, relation, condition, draw, trial): the same rows give the same
bytes.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fv.config import StatsConfig
from fv.interventions.answers import AnswerScores, score_columns
from fv.statistics.grouped import grouped_means
from fv.statistics.intervals import Kind

NO_VECTOR = ""
"""The `fv` of a condition without a function vector."""
KEY = ["fv", "eval_qid", "condition"]
MEANS_KEY = [*KEY, "draw", "subset"]
CONTRASTS_KEY = [*KEY, "minus", "subset"]
ALL, FEW_SHOT_CORRECT = "all", "few_shot_correct"
LEVELS = {
    **dict.fromkeys(("logprob", "p", "rank", "logit_difference", "answer_logprob"), Kind.mean),
    **dict.fromkeys(("top1", "top3", "top5", "candidate_accuracy", "exact_match"), Kind.proportion),
}
"""What a condition is rated by, whatever it is compared with, and what kind of mean each is."""
CHANGES = {
    **dict.fromkeys(("delta_logprob", "delta_p", "delta_answer_logprob"), Kind.mean),
    "delta_top1": Kind.proportion_difference,
    "worse": Kind.proportion,
}
"""What a condition changes against its reference; the mean of `worse` is the harm rate."""
CONTRASTED = {
    **dict.fromkeys(("logprob", "p", "answer_logprob"), Kind.mean),
    **dict.fromkeys(("top1", "candidate_accuracy", "exact_match"), Kind.proportion_difference),
}
"""What two conditions are compared by, trial by trial."""
CONTRASTS = {
    "fv": (
        "random_vector",
        "random_heads",
        "bottom_heads",
        "corrupted_prompts",
        "other_relation",
        "mean_of_others",
        "layer_mean_added",
        "layer_mean_replaced",
        "few_shot",
    ),
    "few_shot_corrupted_fv": ("few_shot_corrupted", "few_shot"),
    "ablated_top_heads": ("ablated_random_heads", "few_shot"),
}
"""Each condition, and what it is compared with."""


def condition_rows(
    where: dict[str, object], trial_ids: Sequence[str], scores: AnswerScores, edit: int, reference: pd.DataFrame | None
) -> pd.DataFrame:
    """Trial rows of one condition.

    Args:
        where: the columns that say which condition it is.
        trial_ids: the trials, (n_trials,).
        scores: (n_trials, n_edits).
        edit: which of the edits.
        reference: the rows of the condition it changes, on the same trials; None where there is none.
    """
    return rated_rows(pd.DataFrame({**where, "trial_id": list(trial_ids), **score_columns(scores, edit)}), reference)


def rated_rows(scored: pd.DataFrame, reference: pd.DataFrame | None) -> pd.DataFrame:
    """`condition_rows` from rows that hold the answers' scores (`fv.interventions.answers.AnswerScores`) already."""
    rows = scored.copy()
    rows["p"] = np.exp(rows["logprob"])
    for n in (1, 3, 5):
        rows[f"top{n}"] = (rows["rank"] < n).astype(float)
    rows["candidate_accuracy"] = (rows["logit_difference"] > 0).astype(float).where(rows["logit_difference"].notna())
    rows["exact_match"] = rows["exact_match"].astype(float)
    for change in ("logprob", "p", "top1", "answer_logprob"):
        rows[f"delta_{change}"] = np.nan if reference is None else rows[change] - reference[change].to_numpy()
    rows["worse"] = np.nan if reference is None else (rows["delta_logprob"] < 0).astype(float)
    return rows


def in_subsets(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows once for all trials and once for those that the few-shot prompt gets right, named by `subset`."""
    right = rows[rows["few_shot_correct"]]
    return pd.concat([rows.assign(subset=ALL), right.assign(subset=FEW_SHOT_CORRECT)], ignore_index=True)


def means_table(rows: pd.DataFrame, stats: StatsConfig, seed: int) -> pd.DataFrame:
    """Mean of every metric of every condition and draw, with its interval: `held_out.csv`."""
    return grouped_means(in_subsets(rows), MEANS_KEY, {**LEVELS, **CHANGES}, "trial_id", stats, seed)


def contrasts_table(rows: pd.DataFrame, stats: StatsConfig, seed: int) -> pd.DataFrame:
    """Effect minus control with its interval over trials and over the control's draws: `contrasts.csv`.

    `n_draws`, `draw_sd`, `draw_min` and `draw_max` say how the difference varies from draw to draw.
    """
    differences = contrast_rows(rows)
    return grouped_means(in_subsets(differences), CONTRASTS_KEY, CONTRASTED, "trial_id", stats, seed, draw="draw")


def contrast_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Differences of each trial, one row a (fv, relation, condition, minus, trial, draw of the control)."""
    # `compared_with` is the vector whose controls a row is compared with: its own, unless the rows say another.
    values = rows.assign(compared_with=rows["compared_with"].where(rows["compared_with"].notna(), rows["fv"]))
    values = values[[*KEY, "compared_with", "draw", "all_draws", "trial_id", "few_shot_correct", *CONTRASTED]]
    tables = []
    for condition, others in CONTRASTS.items():
        own = values[values["condition"] == condition].drop(columns=["draw", "all_draws"])
        for other in others:
            control = values[values["condition"] == other]
            # A baseline has no vector of its own: it is compared with every vector on its relation.
            shared = bool((control["fv"] == NO_VECTOR).all())
            on = ["eval_qid", "trial_id"] if shared else ["compared_with", "eval_qid", "trial_id"]
            control = control.drop(columns="compared_with").rename(columns={"fv": "compared_with"})
            paired = own.merge(control[[*on, "draw", "all_draws", *CONTRASTED]], on=on, suffixes=("", "_other"))
            for metric in CONTRASTED:
                paired[metric] -= paired[f"{metric}_other"]
            tables.append(paired.assign(minus=other))
    columns = [*KEY, "minus", "trial_id", "draw", "all_draws", "few_shot_correct", *CONTRASTED]
    return pd.concat(tables, ignore_index=True)[columns]


def cost_table(rows: pd.DataFrame, stats: StatsConfig, seed: int) -> pd.DataFrame:
    """Mean KL divergence on unrelated texts of every condition and draw, with its interval: `injection_cost.csv`."""
    return grouped_means(rows, [*KEY, "draw"], {"kl": Kind.mean}, "text", stats, seed)
