"""Tables of a run, read exactly as they were written, to the last bit."""

from pathlib import Path

import pandas as pd

from fv.errors import ArtifactError

TEXT = ("q_id", "trial_id", "fv", "eval_qid", "fv_source", "fv_kind", "condition", "minus", "of", "compared_with")
"""Columns that hold names, read as text: a relation may be called `NA` or `007`."""
OPTIONAL = ("of", "compared_with")
"""Columns of names whose empty cells are missing values. An empty `fv` is a name: the condition has no vector."""


def read_table(path: Path) -> pd.DataFrame:
    """Read one CSV file of a run; a missing name is None, and a missing number is NaN.

    Raises:
        ArtifactError: the file is missing, or is not a table.
    """
    try:
        header = pd.read_csv(path, nrows=0).columns
        text = [column for column in header if column in (*TEXT, "ranking", "metric", "subset", "chosen_by")]
        # round_trip: the default parser may be off in the last bit, and ties must stay ties.
        table = pd.read_csv(
            path,
            dtype=dict.fromkeys(text, str),
            keep_default_na=False,
            na_values={column: [""] for column in header if column not in text},
            float_precision="round_trip",
        )
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing.") from None
    except ValueError as error:
        raise ArtifactError(f"{path} cannot be read as a table: {error}") from None
    for column in [name for name in OPTIONAL if name in table]:
        table[column] = table[column].where(table[column] != "", None)
    return table
