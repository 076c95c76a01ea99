"""The self-check: what it measures, and what it refuses."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import load_local
from short_memory import short_of_memory
from torch import Tensor
from transformers import AttentionInterface

from fv.config import ComputeConfig, Dtype
from fv.errors import MemoryLackError, ModelError
from fv.interventions import prefix_attention
from fv.interventions.prefix_attention import ATTENTION, shared_prefix_attention
from fv.interventions.selfcheck import selfcheck
from fv.models.language_model import LanguageModel


def copy_of(lm: LanguageModel, **spec: Any) -> LanguageModel:
    return replace(lm, model=deepcopy(lm.model), spec=replace(lm.spec, **spec))


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


def test_a_skipped_selfcheck_says_so(tiny_gpt2_folder: Path) -> None:
    lm = load_local(tiny_gpt2_folder, ComputeConfig(selfcheck=False))
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


def refuse_engine(lm: LanguageModel) -> None:
    with pytest.raises(
        ModelError, match=rf"{lm.spec.name}.* engine is \d\S* away from the naive loop.*another `sweep` in its spec"
    ):
        selfcheck(lm)


@contextmanager
def attending(attention: Callable[..., Any]) -> Iterator[None]:
    """Models of the shared-prefix engine attend by `attention`."""
    AttentionInterface.register(ATTENTION, attention)
    try:
        yield
    finally:
        AttentionInterface.register(ATTENTION, shared_prefix_attention)


def test_the_selfcheck_refuses_rows_that_see_one_another(tiny_lm: LanguageModel) -> None:
    def leaky(module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, fv_prefix: Any, **kwargs: Any) -> Any:
        if fv_prefix.stop_after is None:
            # The last row's key and value stand for every row's own.
            key, value = key[:, :, -1:].expand_as(key), value[:, :, -1:].expand_as(value)
        kwargs["fv_prefix"] = fv_prefix
        return shared_prefix_attention(module, query, key, value, *args, **kwargs)

    with attending(leaky):
        refuse_engine(tiny_lm)


def test_the_selfcheck_refuses_rows_that_see_padding(tiny_lm: LanguageModel) -> None:
    def unmasked(*args: Any, fv_prefix: Any, **kwargs: Any) -> Any:
        seeing = copy(fv_prefix)
        seeing.visible = None
        kwargs["fv_prefix"] = seeing
        return shared_prefix_attention(*args, **kwargs)

    with attending(unmasked):
        refuse_engine(tiny_lm)


def test_the_selfcheck_refuses_a_prefix_without_a_causal_mask(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    attend = prefix_attention.scaled_dot_product_attention

    def sees_the_future(*args: Any, is_causal: bool = False, **kwargs: Any) -> Tensor:
        return attend(*args, **kwargs)

    monkeypatch.setattr(prefix_attention, "scaled_dot_product_attention", sees_the_future)
    refuse_engine(tiny_lm)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [Dtype.bf16, Dtype.fp16])
def test_a_real_model_passes_in_formats_of_sixteen_bits(smollm2_folder: Path, dtype: Dtype) -> None:
    assert load_local(smollm2_folder, ComputeConfig(dtype=dtype)).selfcheck["identity_bit_equal"]


def test_a_lack_of_memory_is_no_fault_of_the_spec(tiny_llama: LanguageModel) -> None:
    with (
        short_of_memory(tiny_llama, lambda _, rows: rows > 1),
        pytest.raises(MemoryLackError, match="Memory ran out on cpu"),
    ):
        selfcheck(tiny_llama)
