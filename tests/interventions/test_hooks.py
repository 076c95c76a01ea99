"""Edits of a running model: where they act, where they must not, and what is refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from families import tiny
from torch import Tensor, nn

from fv.errors import ModelError
from fv.interventions.engine import Cell
from fv.interventions.hooks import edit_block_output, edit_head_outputs, record_head_outputs
from fv.interventions.naive import NaiveEngine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt

IDS = torch.tensor([[11, 3, 402, 77, 9, 1200]])


def logits_of(lm: LanguageModel) -> Tensor:
    with torch.no_grad():
        return lm.model(input_ids=IDS % lm.unembedding.weight.shape[0], use_cache=False).logits


@contextmanager
def residuals(lm: LanguageModel) -> Iterator[list[Tensor]]:
    """What each block returned, (1, positions, d_model), by hooks set after those under test."""
    seen: list[Tensor] = []
    handles = [
        block.register_forward_hook(lambda _module, _args, output: seen.append(output.clone())) for block in lm.blocks
    ]
    yield seen
    for handle in handles:
        handle.remove()


def add_at_last_token(residual: Tensor) -> Tensor:
    edited = residual.clone()
    edited[:, -1] += 3.0
    return edited


def without_hooks(lm: LanguageModel) -> bool:
    return not any(module._forward_hooks or module._forward_pre_hooks for module in lm.model.modules())


def copy_of(lm: LanguageModel, **spec: Any) -> LanguageModel:
    return replace(lm, model=deepcopy(lm.model), spec=replace(lm.spec, **spec))


def test_identity_edits_leave_the_logits_bit_equal(tiny_lm: LanguageModel) -> None:
    plain = logits_of(tiny_lm)
    for layer in range(tiny_lm.n_layers):
        with edit_head_outputs(tiny_lm, layer, torch.clone), edit_block_output(tiny_lm, layer, torch.clone):
            assert torch.equal(logits_of(tiny_lm), plain)


@pytest.mark.parametrize("edit_at", [edit_block_output, edit_head_outputs])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_an_edit_at_the_last_token_touches_nothing_before_it(tiny_lm: LanguageModel, edit_at: Any, layer: int) -> None:
    with residuals(tiny_lm) as plain:
        logits_of(tiny_lm)
    with edit_at(tiny_lm, layer, add_at_last_token), residuals(tiny_lm) as edited:
        logits_of(tiny_lm)
    for i, (before, after) in enumerate(zip(plain, edited, strict=True)):
        assert torch.equal(after[:, :-1], before[:, :-1])
        assert torch.equal(after[:, -1], before[:, -1]) == (i < layer)


def test_an_injection_is_what_the_next_block_reads(tiny_lm: LanguageModel) -> None:
    with residuals(tiny_lm) as plain:
        logits_of(tiny_lm)
    with edit_block_output(tiny_lm, 1, add_at_last_token), residuals(tiny_lm) as edited:
        logits_of(tiny_lm)
    assert torch.equal(edited[1][:, -1], plain[1][:, -1] + 3.0)


def test_recorded_head_outputs_are_what_the_projection_reads_at_the_last_token(tiny_lm: LanguageModel) -> None:
    recorded: dict[int, Tensor] = {}
    read: list[Tensor] = []
    handles = [p.register_forward_pre_hook(lambda _module, args: read.append(args[0])) for p in tiny_lm.out_projs]
    with record_head_outputs(tiny_lm, range(tiny_lm.n_layers), None, recorded):
        logits_of(tiny_lm)
    for handle in handles:
        handle.remove()
    assert sorted(recorded) == [0, 1, 2]
    assert all(torch.equal(recorded[layer], read[layer][:, -1]) for layer in recorded)


def with_unused_projection(lm: LanguageModel) -> LanguageModel:
    """A model whose spec names a module that exists and is never called."""
    copy = copy_of(lm, out_proj="unused")
    for block in copy.blocks:
        block.unused = nn.Linear(lm.n_heads * lm.head_dim, lm.d_model)
    return copy


def test_an_edit_that_never_ran_is_an_error(tiny_lm: LanguageModel) -> None:
    lm = with_unused_projection(tiny_lm)
    with pytest.raises(ModelError, match=rf"{lm.spec.blocks}\.1\.unused never ran"), edit_head_outputs(lm, 1, abs):
        logits_of(lm)
    assert without_hooks(lm)


def test_a_recording_that_never_ran_is_an_error(tiny_lm: LanguageModel) -> None:
    lm = with_unused_projection(tiny_lm)
    with pytest.raises(ModelError, match=r"\.unused was never called in layers \[0, 1, 2\]"):
        NaiveEngine(lm).last_token([Prompt((1, 2), (3,))])
    assert without_hooks(lm)


def test_a_block_edit_without_a_forward_is_an_error(tiny_lm: LanguageModel) -> None:
    edit = edit_block_output(tiny_lm, 2, torch.clone)
    with pytest.raises(ModelError, match=rf"{tiny_lm.spec.blocks}\.2 never ran"), edit:
        pass


def test_hooks_are_gone_after_an_error_and_the_error_is_the_callers(tiny_lm: LanguageModel) -> None:
    plain = logits_of(tiny_lm)

    def broken(_tensor: Tensor) -> Tensor:
        raise ZeroDivisionError

    for edit_at in (edit_head_outputs, edit_block_output):
        with pytest.raises(ZeroDivisionError), edit_at(tiny_lm, 0, broken):
            logits_of(tiny_lm)
        with pytest.raises(KeyError), edit_at(tiny_lm, 0, torch.zeros_like):  # before any forward
            raise KeyError
    with pytest.raises(KeyError), record_head_outputs(tiny_lm, [0], None, {}):
        raise KeyError
    assert without_hooks(tiny_lm)
    assert torch.equal(logits_of(tiny_lm), plain)


@pytest.fixture(scope="module")
def tiny_gptj() -> LanguageModel:
    """A family whose blocks return a tuple."""
    return tiny("gptj")


def test_a_block_that_returns_a_tuple_is_edited_in_its_first_item(tiny_gptj: LanguageModel) -> None:
    (prompt,), vector = [Prompt((5, 9, 40, 7), (3,))], torch.linspace(-2, 2, 32)
    kinds: list[type] = []

    def add(_module: nn.Module, _args: Any, output: Any) -> Any:
        kinds.append(type(output))
        output[0][:, -1] += 1.5 * vector

    for layer in range(3):
        handle = tiny_gptj.blocks[layer].register_forward_hook(add)
        logits = tiny_gptj.model(torch.tensor([prompt.token_ids])).logits[0, -1]
        handle.remove()
        after = NaiveEngine(tiny_gptj).inject([prompt], vector[None, None], [Cell(layer, 1.5)])[1]
        assert float(after.logprob) == pytest.approx(float(logits.double().log_softmax(-1)[3]), abs=5e-6)
    assert set(kinds) == {tuple}


def test_the_other_items_of_a_tuple_are_kept(tiny_gptj: LanguageModel) -> None:
    plain: list[Any] = []
    edited: list[Any] = []
    block = tiny_gptj.blocks[1]
    handle = block.register_forward_hook(lambda _module, _args, output: plain.append(output))
    logits_of(tiny_gptj)
    handle.remove()
    with edit_block_output(tiny_gptj, 1, add_at_last_token):
        handle = block.register_forward_hook(lambda _module, _args, output: edited.append(output))
        logits_of(tiny_gptj)
        handle.remove()
    assert isinstance(edited[0], tuple) and len(edited[0]) == len(plain[0])
    assert torch.equal(edited[0][0][:, -1], plain[0][0][:, -1] + 3.0)


@pytest.mark.parametrize(
    ("returned", "kind"), [(lambda x: {"hidden": x}, "dict"), (lambda x: x[0], "Tensor"), (lambda x: (), "tuple")]
)
def test_a_block_that_returns_no_residual_stream_is_refused(tiny_lm: LanguageModel, returned: Any, kind: str) -> None:
    lm = copy_of(tiny_lm)
    lm.blocks[1].register_forward_hook(lambda _module, _args, output: returned(output))
    edit = edit_block_output(lm, 1, torch.clone)
    with pytest.raises(ModelError, match=rf"{lm.spec.blocks}\.1 returned {kind}"), edit:
        logits_of(lm)


def test_a_projection_called_without_a_tensor_is_refused(tiny_llama: LanguageModel) -> None:
    edit = edit_head_outputs(tiny_llama, 0, torch.clone)
    with pytest.raises(ModelError, match="Linear was not called with a tensor first"), edit:
        tiny_llama.out_projs[0](input=torch.zeros(1, 1, 48))
