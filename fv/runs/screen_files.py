"""Files of a screened run: `screen_scores.csv` and `screen_report.json` (spec section 4)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fv.errors import ArtifactError
from fv.files import read_json
from fv.heads.effects import Effects
from fv.heads.screen import Screen
from fv.heads.screen_report import screen_report
from fv.runs.outputs import Outputs
from fv.runs.table_files import read_table
from fv.vectors.names import ranking_name

SCORES, REPORT = "screen_scores.csv", "screen_report.json"


def write_screen(outputs: Outputs, effects: Effects) -> None:
    """Write the estimates, the verified heads, and their agreement; write nothing if the run is not screened.

    Args:
        outputs: StepD's outputs.
        effects: the effects of all relations.
    """
    if (screen := effects.screen) is None:
        return
    rankings = (None, *effects.qids)
    tables = [screen.table(q_id).assign(ranking=ranking_name(q_id)) for q_id in rankings]
    columns = ["ranking", "layer", "head", "score", "verified", "chosen_by"]
    outputs.csv(SCORES, pd.concat(tables, ignore_index=True)[columns])
    outputs.json(REPORT, screen_report(screen, effects.cie, effects.stats))


def read_screen(folder: Path, q_ids: Sequence[str], shape: tuple[int, int]) -> Screen:
    """Read the files that `write_screen` wrote.

    Args:
        folder: the folder of the files.
        q_ids: the relations.
        shape: (n_layers, n_heads).

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    table, about = read_table(folder / SCORES), read_json(folder / REPORT)
    scores = {}
    for q_id in q_ids:
        own = table[table["ranking"] == ranking_name(q_id)]
        scores[q_id] = np.full(shape, np.nan)
        scores[q_id][own["layer"], own["head"]] = own["score"]
    try:
        return Screen.of(about, scores)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{folder / REPORT} is incomplete ({error!r}).") from None
