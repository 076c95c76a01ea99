"""The second half of Step6: the chosen cells on the test trials, and all results into files.

A single job and a gathered sweep go through here, so the same rows end as the same bytes.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from fv.config import Config
from fv.evaluation.caveats import caveats
from fv.evaluation.held_out_results import HeldOutResults
from fv.evaluation.summary import summary_json
from fv.runs.results import StepdResults
from fv.runs.step6_files import write_step6


def write_results(
    folder: Path,
    config: Config,
    stepd: StepdResults,
    rows: pd.DataFrame,
    held_out: HeldOutResults | None,
    meta: dict[str, Any],
) -> None:
    """Summarise, and write Step6's files.

    Args:
        folder: where to.
        config: the configuration of the whole grid.
        stepd: StepD's artifacts.
        rows: trial rows of the grid.
        held_out: what `evaluate_held_out` gave; None for the grid alone.
        meta: the step's metadata so far.
    """
    summary = {
        **summary_json(rows, stepd.effects.residual_norms, config.stats, config.seed),
        "alpha_unit": config.injection.alpha_unit.value,
        "eval_split": stepd.snapshot.eval_split,
        "warnings": [*stepd.warnings, *caveats(stepd.snapshot, stepd.effects, rows, config.data.called("split"))],
        **(held_out.summary if held_out else {}),
    }
    write_step6(folder, config, stepd.snapshot, rows, summary, held_out, meta)
