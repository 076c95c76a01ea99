"""StepD, StepE and Step6 from one end to the other on families that differ in everything a spec declares."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from families import tiny
from tiny_runs import TinyRun

from fv.files import read_json
from fv.steps.pipeline import run_pipeline

# Parallel blocks on shared prefixes; post-norm, windows and soft-capping on expanded batches; tuples and ALiBi.
FAMILIES = ["gpt_neox", "gemma2", "bloom"]


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tiny_llama_folder: Path, tmp_path: Path) -> Path:
    """A tiny model of a family, on SmolLM2's tokenizer."""
    path = tmp_path / request.param
    tiny(request.param, vocab_size=49152, max_position_embeddings=512).model.save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_llama_folder / name, path / name)
    return path


@pytest.mark.slow
def test_a_family_runs_through_all_steps_and_equals_the_naive_run(folder: Path, tiny_run: TinyRun) -> None:
    given = tiny_run.but({"model.path": folder, "compute.selfcheck": True, "data.n_demos": 2})
    tables, summaries = [], []
    for sweep in ("auto", "naive"):
        run = run_pipeline(given({"compute.sweep": sweep, "injection.layer": [0, 2]}, run_id=sweep))
        root = next(path for path in [run, *run.parents] if (path / "artifacts").is_dir())
        meta = read_json(root / "artifacts" / "stepD_meta.json")
        assert meta["selfcheck"]["sweep_vs_naive"] < 2e-5
        tables.append(pd.read_csv(root / "artifacts" / "cie_scores.csv"))
        summaries.append(pd.DataFrame(read_json(root / "artifacts" / "step6" / "eval_summary.json")["rows"]))
    for fast, naive in (tables, summaries):
        np.testing.assert_allclose(fast["mean_delta_logprob"], naive["mean_delta_logprob"], rtol=0, atol=2e-5)
    assert tables[0]["mean_delta_logprob"].abs().max() > 0.01
