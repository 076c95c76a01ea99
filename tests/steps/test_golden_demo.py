"""The demo's numbers are frozen: whatever is rebuilt around them, they stay (`tests/files/golden_demo_*.csv.gz`).

Written by the code of November 2026. A change that is to move them says so in the changelog and writes them again.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import MakeConfig

from fv.files import read_json
from fv.runs.paths import RunPaths
from fv.steps.pipeline import run_pipeline

DATA = Path(__file__).parents[1] / "files"


@pytest.fixture(scope="module")
def found(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """The demo up to its grid and choice; what follows is ten times as long and rests on the same code."""
    folder = tmp_path_factory.mktemp("golden")
    config = make_config("experiment=demo", "evaluation=grid", f"results_dir={folder}", "compute.selfcheck=false")
    run_pipeline(config)
    paths = RunPaths.of(config)
    summary = read_json(paths.step6 / "eval_summary.json")
    cie = pd.read_csv(paths.artifacts / "cie_scores.csv")
    return {"cie_scores": cie, "rows": pd.DataFrame(summary["rows"]), "chosen": pd.DataFrame(summary["chosen"])}


def tolerance_of(column: str) -> tuple[float, float]:
    """How far last bits move a number, relative and absolute."""
    if column.endswith("norm"):  # in the hundreds, where float32 has no five digits behind the point
        return 1e-6, 1e-5
    if column.endswith(("_ci_low", "_ci_high")):  # a quantile of resamples steps where two of them change places
        return 0, 2e-3
    # A single log p differs by up to 1.9e-5 between two orders of the same sums (docs/engine.md), so also between CPUs.
    return 0, 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cie_scores", "rows", "chosen"])
def test_the_demos_numbers_have_not_moved(found: dict[str, pd.DataFrame], name: str) -> None:
    golden = pd.read_csv(DATA / f"golden_demo_{name}.csv.gz")
    assert [*found[name]] == [*golden] and len(found[name]) == len(golden)
    for column in golden:
        there, here = golden[column], found[name][column]
        if pd.api.types.is_numeric_dtype(there):
            rtol, atol = tolerance_of(str(column))
            np.testing.assert_allclose(here.astype(float), there, rtol=rtol, atol=atol, err_msg=column)
        else:
            assert here.astype(str).tolist() == there.astype(str).tolist(), column
