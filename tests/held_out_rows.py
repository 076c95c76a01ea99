"""Trial rows of conditions, as an evaluation makes them, from log probabilities that a test names."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from fv.evaluation.tables import rated_rows

Scores = Mapping[tuple[str, str, int], Sequence[float] | np.ndarray]
"""{(vector, condition, draw): log p of the right answer on each trial}; an empty vector for a condition without one."""


def trial_rows(
    scores: Scores, eval_qid: str = "a", refit_of: Mapping[str, str] | None = None, shown: Sequence[bool] = ()
) -> pd.DataFrame:
    """Rows of a relation's conditions, changes relative to the zero-shot prompt, which is one of them.

    Args:
        scores: log p of every condition.
        eval_qid: the relation.
        refit_of: {condition: the condition that it is a refit of}.
        shown: whether a fit prompt shows each trial's answer; no answer unless given.
    """
    zero, n = np.asarray(scores["", "zero_shot", 0]), len(scores["", "zero_shot", 0])
    tables = []
    for (fv, condition, draw), values in scores.items():
        where = {"fv": fv, "eval_qid": eval_qid, "condition": condition, "draw": draw, "layer": 1, "alpha": 2.0}
        where |= {"all_draws": True, "compared_with": None, "refit_of": (refit_of or {}).get(condition, "")}
        trials = {"trial_id": [f"{eval_qid}:{i:03d}" for i in range(n)], "answer_shown": [*shown] or [False] * n}
        scored, before = (
            pd.DataFrame({**where, **trials, "logprob": own, "logit_difference": own + 5, "answer_logprob": own})
            for own in (np.asarray(values), zero)
        )
        for table in (scored, before):
            table["rank"] = (table["logprob"] < -1).astype(int)
            table["exact_match"] = table["rank"] == 0
        tables.append(rated_rows(scored, None if condition == "zero_shot" else rated_rows(before, None)))
    return pd.concat(tables, ignore_index=True).assign(few_shot_correct=True)
