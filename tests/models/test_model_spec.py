"""The family of a model: found, named, read from a file, and refused where it does not fit."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import load_local
from transformers import XGLMConfig

from fv.errors import ModelError
from fv.models.language_model import LanguageModel
from fv.models.spec import SPECS, find_spec


def copy_of(lm: LanguageModel, **spec: Any) -> LanguageModel:
    return replace(lm, model=deepcopy(lm.model), spec=replace(lm.spec, **spec))


@pytest.mark.parametrize("wanted", ["auto", "no_such_spec"])
def test_an_unknown_family_is_refused_with_the_specs_and_paths_there_are(wanted: str) -> None:
    with pytest.raises(ModelError) as error:
        find_spec("mamba", wanted)
    for spec in SPECS:
        assert f"{spec.name} ({spec.blocks}.*.{spec.out_proj})" in str(error.value)
    assert ("mamba" if wanted == "auto" else "no_such_spec") in str(error.value)
    if wanted == "auto":
        assert "(it has layers without attention)" in str(error.value)
        assert "force it with spec=<name>" in str(error.value) and "spec_file=<file>.yaml" in str(error.value)


def test_an_unknown_family_is_refused_at_load(tmp_path: Path) -> None:
    XGLMConfig(vocab_size=50, d_model=16, attention_heads=2, num_layers=1, ffn_dim=16).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"'xglm' have no spec.*transformer\.h\.\*\.attn\.c_proj"):
        load_local(tmp_path)


def test_a_family_of_ones_own_is_read_from_a_file(tiny_gpt2_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\nmodel_types: [gpt2]\nblocks: transformer.h\nout_proj: attn.c_proj\n"
        "final_norm: transformer.ln_f\nconv1d: true\n"
    )
    lm = load_local(tiny_gpt2_folder, spec_file=str(file))
    assert (lm.spec.name, lm.spec.sweep) == ("mine", "expanded")
    file.write_text(file.read_text().replace("conv1d: true", "conv1d: false"))
    with pytest.raises(ModelError, match=r"the spec mine at transformer\.h\.0\.attn\.c_proj: the heads' sum"):
        load_local(tiny_gpt2_folder, spec_file=str(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nblock: h\n", r"block: Unexpected.*|blocks: Field required"),
        ("[]", "describes no family"),
        ("name: [", "is not YAML"),
        ("name: x\nmodel_types: [a]\nblocks: h\nout_proj: o\nfinal_norm: n\nsweep: fast\n", "sweep: Input should be"),
    ],
)
def test_a_wrong_family_file_is_refused_with_its_keys(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ModelError, match=message):
        find_spec("gpt2", spec_file=str(file))
    with pytest.raises(ModelError, match="cannot be read"):
        find_spec("gpt2", spec_file=str(tmp_path / "none.yaml"))


def test_the_wrong_spec_is_refused_at_load_with_its_paths(tiny_llama_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"LlamaForCausalLM.*transformer\.h.*the spec gpt2 .*attn\.c_proj"):
        load_local(tiny_llama_folder, spec="gpt2")


def test_the_spec_may_be_named(tiny_gpt2_folder: Path) -> None:
    assert load_local(tiny_gpt2_folder, spec="gpt2").spec is find_spec("gpt2")


def test_the_head_width_is_the_projections_and_not_hidden_over_heads(tiny_llama: LanguageModel) -> None:
    assert (tiny_llama.d_model, tiny_llama.n_heads) == (40, 4)
    assert tiny_llama.head_dim == 12
    assert tiny_llama.head_slice(3) == slice(36, 48)


def test_a_projection_that_the_heads_do_not_divide_is_refused(tiny_llama: LanguageModel) -> None:
    lm = copy_of(tiny_llama)
    lm.model.config.num_attention_heads = 5
    with pytest.raises(ModelError, match=r"self_attn\.o_proj has 48 inputs, which 5 heads do not divide"):
        _ = lm.head_dim
