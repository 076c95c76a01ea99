"""What runs say of numbers that are none, and of answers that tie."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny_runs import TinyRun
from transformers import AutoModelForCausalLM, AutoTokenizer

from fv.errors import NotFiniteError
from fv.files import read_json, read_jsonl
from fv.runs.paths import RunPaths
from fv.steps.pipeline import run_pipeline
from fv.steps.stepd import run_stepd


def with_weights(folder: Path, target: Path, path: str, value: float) -> Path:
    """A copy of a model in which one module's weights are all one number."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.get_submodule(path).weight.fill_(value)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(folder).save_pretrained(target)
    return target


def test_a_run_names_the_setting_that_mends_a_number_that_is_not_finite(
    tiny_run: TinyRun, tiny_llama_folder: Path, tmp_path: Path
) -> None:
    folder = with_weights(tiny_llama_folder, tmp_path / "model", "model.layers.1.mlp.up_proj", 3e38)
    config = tiny_run({"model.path": folder})
    said = r"after the clean prompt of the trial antonym:fit:0000 of antonym .*runs in float32; .*compute\.dtype"
    with pytest.raises(NotFiniteError, match=said):
        run_stepd(config)
    assert not (RunPaths.of(config).artifacts / "cie_scores.csv").exists()


def test_where_all_tokens_tie_nothing_is_right_and_the_summary_counts_it(
    tiny_run: TinyRun, tiny_llama_folder: Path, tmp_path: Path
) -> None:
    folder = with_weights(tiny_llama_folder, tmp_path / "model", "lm_head", 0.0)
    config = tiny_run({"model.path": folder, "injection.layer": 1, "data.qids": ["antonym"]})
    summary = read_json(run_pipeline(config) / "eval_summary.json")
    prompts = pd.DataFrame(read_jsonl(RunPaths.of(config).artifacts / "trial_metrics.jsonl"))
    for kind in ("clean", "corrupted", "zero_shot"):
        assert prompts[f"{kind}_tied"].all() and not prompts[f"{kind}_correct"].any()
    rows = pd.DataFrame(read_jsonl(RunPaths.of(config).step6 / "eval_trials.jsonl"))
    assert rows["injected_tied"].all() and not rows[["baseline_correct", "injected_correct"]].any(axis=None)
    n = len(rows)
    said = f"after 3 of 3 few-shot prompts of fit trials, {n} of {n} zero-shot prompts, {n} of {n} injections into them"
    assert any(f"{said}: a tie counts as wrong." in line for line in summary["warnings"])
    assert all(row["accuracy_delta"] == 0 for row in summary["rows"])
