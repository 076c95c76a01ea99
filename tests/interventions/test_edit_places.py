"""Where edits act and nowhere else, how several go together, and that all is put back."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from edit_makers import POSITIONS, TOLERANCE, edits_of, endless, generated, padded, random_prompts
from families import tiny_editable
from sweep_checks import vectors_of
from torch import Tensor

from fv.interventions.editable import EditableModel
from fv.interventions.edits import AddVector, Edit, ReplaceResidual
from fv.interventions.engines import make_engine
from fv.interventions.wrapping import wrap
from fv.models.prompt import Prompt


@pytest.fixture(scope="module")
def llama() -> EditableModel:
    return endless("llama")


# Where exactly


def next_block_reads(lm: EditableModel, batch: dict[str, Tensor], run: Callable[..., Any]) -> list[Tensor]:
    """What block 2 reads in each pass."""
    seen: list[Tensor] = []
    handle = lm.blocks[2].register_forward_pre_hook(lambda _module, args: seen.append(args[0].detach().clone()))
    run(**batch)
    handle.remove()
    return seen


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("positions", POSITIONS)
def test_in_a_padded_batch_each_rows_own_positions_are_edited_and_no_others(
    llama: EditableModel, side: str, positions: str
) -> None:
    sizes = [5, 2, 7]
    batch = padded(random_prompts(llama, sizes), side)

    def run(**given: Tensor) -> None:
        llama.model.generate(**given, max_new_tokens=2, do_sample=False, pad_token_id=0, use_cache=True)

    (plain, _), vector = next_block_reads(llama, batch, run), torch.full((llama.d_model,), 5.0)
    with llama.edited(AddVector(1, vector), positions):
        edited, after = next_block_reads(llama, batch, run)
    moved = (edited != plain).any(-1)
    last = [6, 6, 6] if side == "left" else [size - 1 for size in sizes]
    due = {
        "last_prompt": torch.nn.functional.one_hot(torch.tensor(last), 7).bool(),
        "all": batch["attention_mask"].bool(),
        "generated": torch.zeros(3, 7, dtype=torch.bool),
    }[positions]
    assert torch.equal(moved, due)
    assert after.shape[1] == 1


def test_unedited_positions_keep_their_bits(llama: EditableModel) -> None:
    ids = torch.tensor(random_prompts(llama, [6]))
    with torch.no_grad():
        plain = llama.model(ids).logits
        with llama.edited(edits_of(llama, "several")):
            edited = llama.model(ids).logits
        assert torch.equal(edited[:, :-1], plain[:, :-1]) and not torch.equal(edited[:, -1], plain[:, -1])
        assert torch.equal(llama.model(ids).logits, plain)


def test_a_vector_can_be_learned_through_its_edit(llama: EditableModel) -> None:
    vector = torch.ones(llama.d_model, requires_grad=True)
    with llama.edited(AddVector(1, vector)):
        llama.model(torch.tensor([[5, 9, 7]])).logits[0, -1, 3].backward()
    assert vector.grad is not None and vector.grad.abs().max() > 0


def test_a_wrapped_model_is_edited_in_its_owners_own_state(llama: EditableModel) -> None:
    model = tiny_editable("llama").model.train().requires_grad_(True)
    model.config._attn_implementation = "sdpa"
    model.generation_config.eos_token_id = None
    lm = wrap(model, llama.tokenizer, selfcheck=False)
    edits, batch = edits_of(lm, "several"), padded(random_prompts(lm, [5, 2]), "left")
    with llama.edited(edits):
        due = generated(llama, batch)
    with lm.edited(edits):
        found = generated(lm, batch)
        assert model.training and model.config._attn_implementation == "sdpa"
    torch.testing.assert_close(torch.stack(found.logits), torch.stack(due.logits), rtol=0, atol=TOLERANCE)


# Several edits


def test_edits_of_one_place_act_in_the_order_given(llama: EditableModel) -> None:
    one, other = vectors_of(llama)
    add, put = AddVector(1, one), ReplaceResidual(1, other)
    ids = torch.tensor(random_prompts(llama, [4]))

    def logits(edits: list[Edit]) -> Tensor:
        with llama.edited(edits), torch.no_grad():
            return llama.model(ids).logits[0, -1]

    assert torch.equal(logits([add, put]), logits([put]))
    assert torch.equal(logits([put, add]), logits([ReplaceResidual(1, other + one)]))


@pytest.mark.parametrize("positions", POSITIONS)
def test_blocks_inside_one_another_are_a_list_of_their_edits(llama: EditableModel, positions: str) -> None:
    edits, batch = edits_of(llama, "several"), padded(random_prompts(llama, [4, 2]), "left")
    with llama.edited(edits, positions):
        together = generated(llama, batch)
    with llama.edited(edits[:2], positions), llama.edited(edits[2:], positions):
        nested = generated(llama, batch)
    assert torch.equal(torch.stack(together.logits), torch.stack(nested.logits))


def test_blocks_inside_one_another_have_their_own_positions(llama: EditableModel) -> None:
    one, other = vectors_of(llama)
    prompts = random_prompts(llama, [4])
    with llama.edited(AddVector(0, one), "last_prompt"), llama.edited(AddVector(0, other), "all"):
        found = generated(llama, padded(prompts, "left"), 2)
    text = prompts[0] + found.sequences[0, -2:-1].tolist()
    handles = []

    def add(_module: Any, _args: Any, output: Tensor) -> Tensor:
        moved = output + other
        moved[0, 3] += one
        return moved

    handles.append(llama.blocks[0].register_forward_hook(add))
    due = llama.model(torch.tensor([text])).logits[0, -1]
    handles[0].remove()
    torch.testing.assert_close(found.logits[-1][0], due, rtol=0, atol=TOLERANCE)


def test_last_prompt_and_generated_together_are_the_newest_token_of_every_decode_step(llama: EditableModel) -> None:
    vector, batch = vectors_of(llama)[0], padded(random_prompts(llama, [4]), "left")
    edit = AddVector(0, vector)
    with llama.edited(edit, "last_prompt"), llama.edited(edit, "generated"):
        found = generated(llama, batch)

    def add(_module: Any, _args: Any, output: Tensor) -> Tensor:
        moved = output.clone()
        moved[:, -1] += vector
        return moved

    handle = llama.blocks[0].register_forward_hook(add)
    due = generated(llama, batch)
    handle.remove()
    torch.testing.assert_close(torch.stack(found.logits), torch.stack(due.logits), rtol=0, atol=TOLERANCE)
    with llama.edited(edit, "last_prompt"):
        once = generated(llama, batch)
    assert not torch.allclose(torch.stack(once.logits), torch.stack(due.logits), rtol=0, atol=TOLERANCE)


# Put back


def traces(lm: EditableModel) -> int:
    """Hooks, and attributes that are not the model's own."""
    hooks = [hook for module in lm.model.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)]
    return len(hooks) + ("generate" in vars(lm.model))


def test_everything_is_put_back(llama: EditableModel) -> None:
    with llama.edited(edits_of(llama, "several")), llama.edited(edits_of(llama, "add")):
        assert traces(llama) > 4
        llama.model(torch.tensor([[3, 4]]))
    assert traces(llama) == 0
    make_engine(llama, "auto", 64).last_token([Prompt((3, 4), (5,))])


@pytest.mark.parametrize("when", ["before", "in generate", "after"])
def test_everything_is_put_back_after_an_error_which_is_the_users(llama: EditableModel, when: str) -> None:
    def stop(*_args: Any) -> bool:
        raise KeyError(when)

    with pytest.raises(KeyError, match=when), llama.edited(edits_of(llama, "several")):
        if when == "after":
            llama.model(torch.tensor([[3, 4]]))
        if when == "in generate":
            llama.model.generate(torch.tensor([[3, 4]]), max_new_tokens=3, stopping_criteria=[stop])
        raise KeyError(when)
    assert traces(llama) == 0
    with llama.edited(edits_of(llama, "add")):
        llama.model(torch.tensor([[3, 4]]))


def test_an_owners_own_generate_is_called_and_put_back(llama: EditableModel) -> None:
    calls: list[int] = []

    def own(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return type(llama.model).generate(llama.model, *args, **kwargs)

    llama.model.generate = own
    try:
        with llama.edited(edits_of(llama, "add")):
            llama.model.generate(torch.tensor([[3, 4]]), max_new_tokens=2)
        assert calls == [1] and llama.model.generate is own
    finally:
        del llama.model.generate
