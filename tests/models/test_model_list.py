"""`python -m entrypoints.models`, and the configurations it lists."""

import subprocess
from pathlib import Path

import pytest
from commands import module
from conftest import ROOT, MakeConfig

from fv.config import model_presets
from fv.interventions.selfcheck import selfcheck
from fv.interventions.selfcheck_limits import limits_of
from fv.models.language_model import LanguageModel
from fv.models.spec import SPECS

CONFIGS = [*model_presets(), "local"]


def models(*words: str) -> subprocess.CompletedProcess[str]:
    return module("models", *words, code=None)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_is_complete_and_names_a_known_family(make_config: MakeConfig, name: str) -> None:
    overrides = ["model.path=."] if name == "local" else []
    model = make_config(f"model={name}", *overrides).model
    assert model.name == name
    assert model.spec in {"auto", *(spec.name for spec in SPECS)}
    assert not model.allow_pickle
    assert (ROOT / "conf" / "model" / f"{name}.yaml").read_text().startswith("# ")


@pytest.mark.slow
def test_every_configuration_and_family_is_listed() -> None:
    listed = models().stdout
    assert all(f" {name} " in listed for name in (*CONFIGS, *(spec.name for spec in SPECS)))
    assert models("list").stdout == listed


@pytest.mark.slow
def test_checking_a_model_prints_what_was_measured(tiny_gpt2_folder: Path) -> None:
    shown = models("check", "model=local", f"model.path={tiny_gpt2_folder}", "compute.selfcheck=false")
    assert shown.returncode == 0
    assert "3 layers × 4 heads × 10, d_model 40" in shown.stdout
    # Checking is what it is for, whatever compute.selfcheck says.
    rows = {row.partition("  ")[0].strip(): row.split()[-3:] for row in shown.stdout.splitlines() if row.strip()}
    assert rows["logits error"] == ["≤", "0.001", "yes"] and rows["parallel block error"] == [">", "0.001", "yes"]
    assert rows["identity bit equal"][1:] == ["true", "yes"] and rows["sweep"][1:] == ["–", "–"]
    assert "no" not in [cells[-1] for cells in rows.values()]


def test_a_measurement_past_its_limit_does_not_pass(tiny_gpt2: LanguageModel) -> None:
    limits = limits_of(tiny_gpt2)
    assert limits.keys() >= {name for name, value in selfcheck(tiny_gpt2).items() if isinstance(value, float)}
    for name, value in (("logits_error", 2e-3), ("zeroed_head_max_change", {"0": 1.0, "1": 0.0})):
        assert not limits[name].admits(value)
    assert not limits["identity_bit_equal"].admits(False) and not limits["logits_error"].admits(float("nan"))


def test_a_model_that_its_spec_does_not_fit_is_an_error(tiny_gpt2_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mlp.yaml"
    file.write_text(
        "{name: mlp, model_types: [gpt2], blocks: transformer.h, out_proj: mlp.c_proj, "
        "final_norm: transformer.ln_f, conv1d: true}"
    )
    shown = models("check", "model=local", f"model.path={tiny_gpt2_folder}", f"model.spec_file={file}")
    assert shown.returncode == 1
    assert "Self-check of the spec mlp at transformer.h.0.mlp.c_proj: without its output" in shown.stderr
    assert "model.spec_file=<file>.yaml" in shown.stderr


def test_another_word_is_refused_with_the_words_there_are() -> None:
    shown = models("prove")
    assert shown.returncode == 1
    assert "list or check" in shown.stderr
