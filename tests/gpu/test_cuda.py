"""On a CUDA device: engines agree, passes stay within memory, switches act, and the presets run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MakeConfig, load_local
from families import tiny
from placement_checks import numbers_of
from sweep_checks import (
    all_heads,
    assert_injecting_agrees,
    assert_patches_close,
    assert_patching_agrees,
    prompts_of,
    values_of,
)

from fv.config import ComputeConfig, Dtype, embedded_model
from fv.files import read_json
from fv.interventions.engine import PatchScores
from fv.interventions.engines import make_engine
from fv.interventions.loading import load_configured
from fv.interventions.memory import bytes_a_row, rows_that_fit
from fv.interventions.naive import NaiveEngine
from fv.interventions.selfcheck import selfcheck
from fv.interventions.selfcheck_limits import BFLOAT16_ENGINES, TOLERANCE
from fv.models.language_model import LanguageModel
from fv.models.switches import set_switches
from fv.runs.paths import RunPaths
from fv.steps.pipeline import run_pipeline

DEVICE = "cuda"
GIB = 2**30
LENGTHS = [60, 100, 7, 100, 31, 85]

if not torch.cuda.is_available():
    pytest.skip("There is no CUDA device here.", allow_module_level=True)
pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def small(tiny_llama_folder: Path) -> LanguageModel:
    return load_local(tiny_llama_folder, ComputeConfig(device=DEVICE))


@pytest.fixture(scope="module", params=[Dtype.fp32, Dtype.bf16, Dtype.fp16])
def real(request: pytest.FixtureRequest) -> LanguageModel:
    """The embedded model, in each format."""
    return load_configured(embedded_model(), ComputeConfig(device=DEVICE, dtype=request.param))


@pytest.fixture(scope="module")
def exact() -> LanguageModel:
    """The embedded model in float32."""
    return load_configured(embedded_model(), ComputeConfig(device=DEVICE))


@pytest.fixture(autouse=True)
def _switches() -> Iterator[None]:
    """torch's switches as a step sets them, and all of the device's memory."""
    set_switches(ComputeConfig())
    yield
    set_switches(ComputeConfig())
    torch.cuda.set_per_process_memory_fraction(1.0)


def patched(lm: LanguageModel, max_rows: int | str, mode: str = "auto") -> PatchScores:
    return make_engine(lm, mode, max_rows).patch_heads(prompts_of(lm, LENGTHS), values_of(lm), all_heads(lm))


@pytest.mark.parametrize("max_rows", [2, 17, 4096])
def test_in_float32_the_fast_engine_is_the_naive_loop(small: LanguageModel, max_rows: int) -> None:
    asked = prompts_of(small, [1, 7, 12, 12])
    assert_patching_agrees(small, asked, max_rows)
    assert_injecting_agrees(small, asked, max_rows)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "bloom", "mixtral"])
def test_each_engine_gives_the_numbers_of_the_cpu(family: str) -> None:
    here, there = tiny(family), tiny(family)
    there.model.to(DEVICE)
    for mode in ("naive", "expanded", "auto"):
        for found, due in zip(numbers_of(there, mode), numbers_of(here, mode), strict=True):
            if due.is_floating_point():
                scale = max(1.0, float(due.nan_to_num().abs().max()))
                torch.testing.assert_close(found.cpu(), due, rtol=0, atol=1e-4 * scale, equal_nan=True)


def test_in_each_format_the_engines_agree_as_far_as_the_format_goes(real: LanguageModel) -> None:
    asked, heads = prompts_of(real, [20, 33]), all_heads(real)[::27]
    tolerance = BFLOAT16_ENGINES if real.dtype is torch.bfloat16 else TOLERANCE[real.dtype]
    due = NaiveEngine(real).patch_heads(asked, values_of(real), heads)
    for mode in ("shared_prefix", "expanded"):
        found = make_engine(real, mode, 4096).patch_heads(asked, values_of(real), heads)
        assert (found.patched - due.patched).abs().max() <= tolerance
    assert selfcheck(real)["sweep_vs_naive"] <= tolerance


def test_passes_take_no_more_than_their_rows_are_reckoned_with(real: LanguageModel) -> None:
    engine, asked = make_engine(real, "auto", 4096), prompts_of(real, LENGTHS * 8)
    values, heads = values_of(real), all_heads(real)
    engine.patch_heads(asked[:1], values, heads[:1])  # what libraries take once
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    engine.patch_heads(asked, values, heads)
    taken = torch.cuda.max_memory_allocated() - before
    assert 0 < taken <= 4096 * bytes_a_row(real)


def test_as_many_rows_as_are_taken_to_fit_do_fit(exact: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows_that_fit(exact) >= 2
    monkeypatch.setattr("fv.interventions.memory.free_bytes", lambda _: GIB)
    limit_memory(GIB)
    engine = make_engine(exact, "auto", "auto")
    asked = engine.max_rows
    engine.patch_heads(prompts_of(exact, LENGTHS * 30), values_of(exact), all_heads(exact))
    assert engine.max_rows == asked


def test_passes_that_do_not_fit_the_device_are_halved_until_they_do(exact: LanguageModel) -> None:
    asked = prompts_of(exact, LENGTHS * 30)
    due = make_engine(exact, "auto", 512).patch_heads(asked, values_of(exact), all_heads(exact))
    limit_memory(GIB // 2)
    engine = make_engine(exact, "auto", 2**16)
    found = engine.patch_heads(asked, values_of(exact), all_heads(exact))
    assert 2 < engine.max_rows < 2**16
    assert_patches_close(found, due, 1e-4)


def test_deterministic_algorithms_give_the_same_bits(exact: LanguageModel) -> None:
    set_switches(ComputeConfig(deterministic=True))
    one, two = (patched(exact, 4096) for _ in range(2))
    assert torch.equal(one.patched, two.patched) and torch.equal(one.unedited.residual, two.unedited.residual)


@pytest.mark.skipif("torch.cuda.get_device_capability() < (8, 0)", reason="This device knows no TF32.")
def test_products_are_in_tf32_only_where_it_is_asked_for() -> None:
    a, b = (torch.randn(1024, 1024, device=DEVICE) for _ in range(2))
    exactly = a.double() @ b.double()

    def error(asked: bool) -> float:
        set_switches(ComputeConfig(tf32=asked))
        return float(((a @ b).double() - exactly).abs().max() / exactly.abs().max())

    assert error(False) < 1e-5 < 1e-4 < error(True)


@pytest.mark.parametrize("preset", ["cuda", "cuda_sharded"])
def test_a_run_with_a_preset_ends_and_is_not_canonical(
    make_config: MakeConfig, tiny_overrides: list[str], preset: str
) -> None:
    config = make_config(*tiny_overrides, f"compute={preset}", "compute.selfcheck=true", "injection.layer=[0,1]")
    run_pipeline(config)
    meta: dict[str, Any] = read_json(RunPaths.of(config).stepd_meta)
    assert (meta["status"], meta["canonical"]) == ("ok", False)
    assert meta["config"]["compute"]["max_rows"] >= 2


def limit_memory(beside: int) -> None:
    """Let torch take so many bytes beside what it has."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + beside) / total)
