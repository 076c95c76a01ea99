"""Files of StepD's measurements of each trial: `cie_trials.npz` and `trial_metrics.jsonl` (spec section 4)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fv.errors import ArtifactError
from fv.files import read_jsonl, write_npz
from fv.heads.indirect_effect import TrialEffects
from fv.statistics.clusters import numbered


def read_prompt_scores(path: Path) -> pd.DataFrame:
    """Read `trial_metrics.jsonl`: one row per fit trial (`fv.heads.relations.prompt_scores`).

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    return pd.DataFrame(read_jsonl(path))


def write_trial_effects(path: Path, trial_ids: Sequence[str], q_ids: Sequence[str], effects: TrialEffects) -> None:
    """Write `cie_trials.npz` (spec section 4); strings are stored as fixed-width Unicode, never pickled.

    Its array `query` gives each trial the number of its query, counted over all relations.
    """
    swept = effects.swept
    write_npz(
        path,
        trial_id=np.array(trial_ids, dtype=np.str_),
        q_id=np.array(q_ids, dtype=np.str_),
        delta_logprob=effects.delta_logprob,
        delta_p=effects.delta_p,
        layers=np.nonzero(swept.any(1))[0],
        heads=np.nonzero(swept.any(0))[0],
        query=effects.query_numbers,
    )


def read_trial_effects(path: Path) -> dict[str, TrialEffects]:
    """Read `cie_trials.npz`: {q_id: effects of its trials, in their order}.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            q_ids, logprob, p, queries = (arrays[key] for key in ("q_id", "delta_logprob", "delta_p", "query"))
    except Exception as error:  # a damaged zip fails in many ways
        raise ArtifactError(f"{path} is missing, truncated or no array file ({type(error).__name__}).") from None
    of_each = {str(q): q_ids == q for q in dict.fromkeys(q_ids.tolist())}
    try:
        return {
            q: TrialEffects.read(logprob[own], p[own], numbered(queries[own].tolist())) for q, own in of_each.items()
        }
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged: {error}.") from None
