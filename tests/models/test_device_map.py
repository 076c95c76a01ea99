"""Models over several devices: an offloaded model gives the numbers of a whole one, and an impossible map is refused.

With a module on disk, accelerate's hooks really act on a machine with a CPU alone: weights are on `meta` outside a
module's forward, and every module's inputs pass a hook.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from accelerate import dispatch_model  # type: ignore[import-untyped]  # it ships no types
from commands import run
from conftest import MakeConfig, load_local
from families import tiny
from placement_checks import numbers_of, parts_of, scores_of, whole_modules
from tiny_runs import TinyRun

from fv.config import ComputeConfig, Config, Dtype, ModelConfig, Quant
from fv.errors import ConfigError, ModelError
from fv.files import read_json
from fv.interventions.selfcheck import selfcheck
from fv.models.language_model import LanguageModel
from fv.steps.pipeline import run_pipeline

LLAMA_MAP = {
    **{f"model.{part}": "disk" for part in ("embed_tokens", "layers.0", "layers.2", "norm")},
    "model.layers.1": "cpu",
    "lm_head": "disk",
}
GPT2_MAP = {
    **{f"transformer.{part}": "disk" for part in ("wte", "h.1", "h.2", "ln_f")},
    **{f"transformer.{part}": "cpu" for part in ("wpe", "h.0")},
    "lm_head": "disk",
}
FREE = "compute.strict=false"


def offloaded(lm: LanguageModel, folder: Path) -> LanguageModel:
    """The model with every other block in memory and all else on disk."""
    paths = whole_modules(lm)
    kept = {f"{lm.spec.blocks}.{layer}" for layer in range(1, lm.n_layers, 2)}
    places = {path: "cpu" if path in kept else "disk" for path in paths}
    dispatch_model(lm.model, places, offload_dir=folder, skip_keys=lm.model._skip_keys_device_placement)
    assert all(parameter.is_meta for parameter in lm.blocks[0].parameters())
    assert not any(parameter.is_meta for parameter in lm.blocks[1].parameters())
    return lm


# Every family


@pytest.mark.slow
# One of each kind of projection, position, norm and block output; all families did when the map was built.
@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neo", "bloom", "mpt", "gemma2", "olmo2", "mixtral"])
def test_an_offloaded_model_computes_the_bits_of_a_whole_one(family: str, tmp_path: Path) -> None:
    lm, whole = offloaded(tiny(family), tmp_path), tiny(family)
    away = [parameter.is_meta for parameter in lm.model.parameters()]
    assert lm.device == torch.device("cpu")
    with torch.no_grad():
        for found, due in zip(parts_of(lm), parts_of(whole), strict=True):
            assert torch.equal(found, due)
    for mode in {"naive", "expanded", whole.spec.sweep.value}:
        for found, due in zip(numbers_of(lm, mode), numbers_of(whole, mode), strict=True):
            assert torch.equal(found, due)
    for found, due in zip(scores_of(lm), scores_of(whole), strict=True):
        assert torch.equal(found, due)
    assert [parameter.is_meta for parameter in lm.model.parameters()] == away


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_the_selfcheck_measures_the_same_of_an_offloaded_model(family: str, tmp_path: Path) -> None:
    assert selfcheck(offloaded(tiny(family), tmp_path)) == selfcheck(tiny(family))


# Several devices, pretended


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "bloom", "olmo2"])
def test_blocks_on_several_devices_meet_no_tensor_of_another(family: str) -> None:
    # A process of its own, since it adds a kind of device to torch.
    done = run("tests/pretended_devices.py", family)
    differences = json.loads(done.stdout)[family]
    assert differences.keys() == {"naive", "auto", "expanded", "weights", "selfcheck", "library"}
    # Attention has other kernels there, so not the last bits.
    assert max(differences.values()) <= 2e-5, differences


# Loading


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device_map", "max_memory", "n_away"),
    [
        (LLAMA_MAP, None, 29),
        ({"model": "disk", "lm_head": "cpu"}, None, 38),
        ({"model": "cpu", "lm_head": "cpu"}, None, 0),
        ("auto", None, 0),
        ("auto", {"cpu": "200KiB"}, 1),
        ("sequential", {"cpu": 1000}, 1),
        ("balanced", {"cpu": "1GB"}, 0),
    ],
)
def test_a_map_places_a_model_that_gives_the_same_numbers(
    tiny_llama_folder: Path, tiny_llama: LanguageModel, device_map: Any, max_memory: Any, n_away: int
) -> None:
    lm = load_local(tiny_llama_folder, device_map=device_map, max_memory=max_memory)
    away = sum(parameter.is_meta for parameter in lm.model.parameters())
    assert away >= n_away and bool(away) == bool(n_away)
    assert lm.selfcheck == tiny_llama.selfcheck
    assert lm.fingerprint == tiny_llama.fingerprint
    for found, due in zip(numbers_of(lm, "auto"), numbers_of(tiny_llama, "auto"), strict=True):
        assert torch.equal(found, due)


@pytest.mark.parametrize("dtype", [Dtype.fp64, Dtype.bf16])
def test_weights_on_disk_have_the_dtype_of_the_run(tiny_llama_folder: Path, dtype: Dtype) -> None:
    whole = load_local(tiny_llama_folder, ComputeConfig(dtype=dtype))
    lm = load_local(tiny_llama_folder, ComputeConfig(dtype=dtype), device_map=LLAMA_MAP)
    assert lm.dtype == whole.dtype == lm.out_weight(0).dtype
    assert lm.selfcheck == whole.selfcheck


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "places"), [("tiny_llama_folder", LLAMA_MAP), ("tiny_gpt2_folder", GPT2_MAP)])
def test_all_steps_with_a_map_give_the_numbers_of_the_run_without(
    request: pytest.FixtureRequest, tiny_run: TinyRun, folder: str, places: Any
) -> None:
    path = request.getfixturevalue(folder)
    given = tiny_run.but({"model.path": path, "compute.selfcheck": True, "injection.layer": [0, 2]})
    mapped = {"compute.strict": False, "model.device_map": places}
    tables = []
    for name, more in (("whole", {}), ("mapped", mapped)):
        run = run_pipeline(given(more, run_id=name))
        root = next(path for path in [run, *run.parents] if (path / "artifacts").is_dir())
        meta = read_json(root / "artifacts" / "stepD_meta.json")
        assert meta["selfcheck"]["identity_bit_equal"] and meta["canonical"] == (name == "whole")
        scores = pd.read_csv(root / "artifacts" / "cie_scores.csv")
        summary = pd.DataFrame(read_json(root / "artifacts" / "step6" / "eval_summary.json")["rows"])
        tables.append((scores, summary))
    (scores, summary), (mapped_scores, mapped_summary) = tables
    pd.testing.assert_frame_equal(mapped_scores, scores, check_exact=True)
    pd.testing.assert_frame_equal(mapped_summary, summary, check_exact=True)
    assert scores["mean_delta_logprob"].abs().max() > 0.001


def saved(lm: LanguageModel, tokenizer_of: Path, folder: Path) -> Path:
    lm.model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_of / name, folder / name)
    return folder


def test_tied_weights_on_disk_are_read_for_both_their_uses(tiny_llama_folder: Path, tmp_path: Path) -> None:
    path = saved(tiny("llama", tie_word_embeddings=True), tiny_llama_folder, tmp_path)
    whole = load_local(path)
    lm = load_local(path, device_map=LLAMA_MAP)
    assert lm.selfcheck == whole.selfcheck
    with pytest.raises(ModelError, match=r"lm_head\.weight on cpu and .* on disk, but they are one tensor"):
        load_local(path, device_map={"model": "disk", "lm_head": "cpu"})


def test_experts_on_disk_need_a_folder_to_be_written_to(tiny_llama_folder: Path, tmp_path: Path) -> None:
    path = saved(tiny("mixtral"), tiny_llama_folder, tmp_path / "model")
    whole = load_local(path)
    with pytest.raises(ModelError, match=r" offload_folder=<folder>"):
        load_local(path, device_map=LLAMA_MAP)
    lm = load_local(path, device_map=LLAMA_MAP, offload_folder=str(tmp_path / "away"))
    assert lm.selfcheck == whole.selfcheck
    assert any((tmp_path / "away").iterdir())


# Maps that are not possible


@pytest.mark.parametrize(
    ("places", "told"),
    [
        (
            {"modle": "disk", "lm_head": "cpu"},
            r"modle, which LlamaForCausalLM does not have. It has model, lm_head",
        ),
        (
            {"model.layers": "disk"},
            r"places no model\.embed_tokens\.weight, model\.norm\.weight, lm_head\.weight\. Every",
        ),
        (
            {"model": "cpu", "model.layers.0": "disk", "lm_head": "cpu"},
            r"layers\.0 and also model, which it is in",
        ),
        ({"model.layers.0.mlp": "disk"}, r"model\.layers\.0\.mlp, a part of model\.layers\.0\. A block stays whole"),
        ({"model": 7, "lm_head": "cpu"}, r"^device_map names device 7, but torch finds .* here"),
    ],
)
def test_a_map_that_does_not_fit_the_model_is_refused(
    tiny_llama_folder: Path, places: dict[str, Any], told: str
) -> None:
    with pytest.raises(ModelError, match=told) as error:
        load_local(tiny_llama_folder, device_map=places)
    assert "\n" not in str(error.value)


def test_memory_of_a_device_that_is_not_there_is_refused(tiny_llama_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"^max_memory names device 7"):
        load_local(tiny_llama_folder, device_map="auto", max_memory={7: "1GiB", "cpu": "1GiB"})


MAKE: list[tuple[Callable[[], Any], str]] = [
    (lambda: ModelConfig(device_map="best"), r"^device_map='best' must be auto, balanced, sequential, or"),
    (lambda: ModelConfig(device_map={}), r"^device_map=\{\} must be"),
    (lambda: ModelConfig(device_map=[0, 1]), r"^device_map=\[0, 1\] must be"),
    (lambda: ModelConfig(device_map={3: "cpu"}), r"^device_map names 3, which is no module path"),
    (lambda: ModelConfig(device_map={"model": "dsk"}), r"^device_map places 'model' on 'dsk'"),
    (lambda: ModelConfig(device_map={"model": -1}), r"^device_map places 'model' on -1"),
    (lambda: ModelConfig(device_map={"model": True}), r"^device_map places 'model' on True"),
    (lambda: ModelConfig(device_map="auto", max_memory={"gpu": "1GiB"}), r"names the device 'gpu'"),
    (lambda: ModelConfig(device_map="auto", max_memory={0: "much"}), r"gives 0 'much'.*KiB, MiB, GiB"),
    (lambda: ModelConfig(device_map="auto", max_memory="10GiB"), r"^max_memory='10GiB' must be a mapping"),
    (lambda: ModelConfig(device_map={"model": 0}, max_memory={0: "1GiB"}), r"has no effect with device_map=\{"),
    (lambda: ModelConfig(device_map="auto", quant=Quant.nf4), r"^device_map and quant=nf4 do not go together"),
    (
        lambda: Config(model=ModelConfig(path="model", device_map="auto")),
        r"model\.device_map=auto .*not canonical.*strict=false",
    ),
    (
        lambda: Config(
            model=ModelConfig(path="model", device_map="auto"), compute=ComputeConfig(device="cuda", strict=False)
        ),
        r"model\.device_map=auto places the model, and so does compute\.device=cuda",
    ),
]


@pytest.mark.parametrize(("make", "told"), MAKE)
def test_a_wrong_setting_is_refused_before_a_model_is_sought(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        make()
    assert "\n" not in str(error.value)


def test_device_numbers_are_numbers_however_they_are_typed(make_config: MakeConfig) -> None:
    config = make_config(FREE, "model.device_map={model.layers.0: 0, model.layers.1: '1', lm_head: cpu}")
    assert config.model.device_map == {"model.layers.0": 0, "model.layers.1": 1, "lm_head": "cpu"}
    assert not config.canonical
    memory = make_config(FREE, "model.device_map=auto", "model.max_memory={0: 10GiB, cpu: 1.5GB}").model.max_memory
    assert memory == {"0": "10GiB", "cpu": "1.5GB"}
