"""How many rows are taken to fit."""

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sweep_checks import few

from fv.config import ComputeConfig, Dtype, model_preset
from fv.errors import ConfigError
from fv.interventions.engines import make_engine
from fv.interventions.memory import MOST_ROWS, bytes_a_row, free_bytes, rows_that_fit
from fv.models.language_model import LanguageModel
from fv.models.shape import load_shape


def test_free_memory_of_a_gpu_counts_what_torch_holds_and_does_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: {1: (5_000, 9_000)}[device.index])
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: 700)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda device: 300)
    assert free_bytes(torch.device("cuda:1")) == 5_400


def test_free_memory_of_the_machine_is_what_the_system_can_give() -> None:
    free = free_bytes(torch.device("cpu"))
    assert 0 < free <= 1.1 * psutil.virtual_memory().available


def test_free_memory_of_other_devices_is_not_known() -> None:
    with pytest.raises(ConfigError, match="max_rows=auto knows the free memory of CUDA and the CPU, not of mps"):
        free_bytes(torch.device("mps"))


@few
@given(free=st.integers(0, 2**46))
def test_rows_grow_with_the_free_memory_and_take_half_of_it(tiny_lm: LanguageModel, free: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fv.interventions.memory.free_bytes", lambda _: free)
        rows = rows_that_fit(tiny_lm)
        patch.setattr("fv.interventions.memory.free_bytes", lambda _: 2 * free)
        more = rows_that_fit(tiny_lm)
    assert 2 <= rows <= more <= min(2 * rows, MOST_ROWS)
    assert rows.bit_count() == 1
    fits = rows * bytes_a_row(tiny_lm) * 2 <= free
    assert fits or rows == 2
    assert not fits or rows == MOST_ROWS or 2 * rows * bytes_a_row(tiny_lm) * 2 > free


def test_the_fullest_gpu_of_several_decides(monkeypatch: pytest.MonkeyPatch, tiny_llama: LanguageModel) -> None:
    class Spread:
        """Stands for weights on three devices: the CPU's only wait there."""

        def __init__(self, device: str) -> None:
            self.device, self.dtype = torch.device(device), torch.float32

        def is_floating_point(self) -> bool:
            return True

    weights = [Spread("cuda:0"), Spread("cuda:1"), Spread("cpu"), Spread("meta")]
    free = {"cuda:0": 2**34, "cuda:1": 2**26}
    monkeypatch.setattr(tiny_llama.model, "parameters", lambda: iter(weights))
    monkeypatch.setattr("fv.interventions.memory.free_bytes", lambda device: free[str(device)])
    rows = rows_that_fit(tiny_llama)
    assert rows < MOST_ROWS
    free["cuda:0"] = 2**30
    assert rows_that_fit(tiny_llama) == rows
    free["cuda:1"] = 2**28
    assert rows_that_fit(tiny_llama) == 4 * rows


def test_a_row_of_half_the_format_takes_less_and_one_of_a_larger_model_more() -> None:
    def a_row(name: str, dtype: Dtype) -> int:
        return bytes_a_row(load_shape(model_preset(name), ComputeConfig(dtype=dtype)))

    assert a_row("smollm2", Dtype.bf16) < a_row("smollm2", Dtype.fp32) < a_row("smollm2", Dtype.fp64)


def test_an_engine_may_be_left_to_take_what_fits(tiny_llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fv.interventions.memory.free_bytes", lambda _: 100 * bytes_a_row(tiny_llama))
    assert make_engine(tiny_llama, "auto", "auto").max_rows == 32
