"""`python -m entrypoints.models`, and the configurations it lists."""

import subprocess
from pathlib import Path

import pytest
from commands import module
from conftest import ROOT, MakeConfig

from fv.config import model_presets
from fv.models.spec import SPECS

CONFIGS = [*model_presets(), "local"]


def models(*words: str) -> subprocess.CompletedProcess[str]:
    return module("models", *words, code=None)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_is_complete_and_names_a_known_family(make_config: MakeConfig, name: str) -> None:
    overrides = ["model.path=."] if name == "local" else []
    model = make_config(f"model={name}", *overrides).model
    assert model.name == name
    assert model.spec in {"auto", *(spec.name for spec in SPECS)}
    assert not model.allow_pickle
    assert (ROOT / "conf" / "model" / f"{name}.yaml").read_text().startswith("# ")


def test_every_configuration_and_family_is_listed() -> None:
    listed = models().stdout
    assert all(f" {name} " in listed for name in (*CONFIGS, *(spec.name for spec in SPECS)))
    assert models("list").stdout == listed


def test_checking_a_model_prints_what_was_measured(tiny_gpt2_folder: Path) -> None:
    shown = models("check", "model=local", f"model.path={tiny_gpt2_folder}", "compute.selfcheck=false")
    assert shown.returncode == 0
    assert "3 layers × 4 heads × 10, d_model 40" in shown.stdout
    assert "sum of heads error" in shown.stdout  # checking is what it is for, whatever compute.selfcheck says


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
