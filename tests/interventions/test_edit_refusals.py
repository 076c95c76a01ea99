"""Edits that would not act, or not where they are meant: each is refused in one line that names the argument."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from edit_makers import endless
from transformers import DynamicCache

from fv.errors import ConfigError, ModelError
from fv.interventions.answers import score_answers
from fv.interventions.editable import EditableModel
from fv.interventions.edits import AddVector, ReplaceResidual, SetHeads
from fv.interventions.engine import Cell, Head
from fv.interventions.engines import make_engine
from fv.interventions.selfcheck import selfcheck
from fv.interventions.wrapping import wrap
from fv.models.prompt import Prompt

IDS = torch.tensor([[5, 9, 40, 7, 11]])
PROMPT = Prompt((5, 9, 40), (7,))


@pytest.fixture(scope="module")
def lm() -> EditableModel:
    """3 layers of 4 heads of 12, d_model 40."""
    return endless("llama")


def a_vector(size: int = 40, value: float = 1.0) -> torch.Tensor:
    return torch.full((size,), value)


def values(value: float = 1.0) -> torch.Tensor:
    return torch.full((3, 4, 12), value)


def refused(kind: type[Exception], said: str) -> Any:
    return pytest.raises(kind, match=said)


# Before anything runs


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ([], "edits is empty: give an AddVector"),
        (None, "edits is a NoneType: give an AddVector"),
        (a_vector(), "edits is a Tensor: give an AddVector"),
        ([AddVector(1, a_vector()), None], "edits is a NoneType"),
        (AddVector(3, a_vector()), "AddVector.layer=3 must be one of 0 to 2, the layers of llama"),
        (AddVector(-1, a_vector()), "AddVector.layer=-1 must be one of 0 to 2"),
        (AddVector(1.0, a_vector()), "AddVector.layer=1.0 must be"),  # type: ignore[arg-type]  # refused
        (AddVector(True, a_vector()), "AddVector.layer=True must be"),
        (AddVector(1, a_vector(41)), r"AddVector.vector has the shape \(41,\), where \(40,\) is due"),
        (AddVector(1, a_vector()[None]), r"AddVector.vector has the shape \(1, 40\)"),
        (AddVector(1, [1.0] * 40), r"AddVector.vector is a list: give a tensor, such as torch\.as_tensor"),  # type: ignore[arg-type]  # refused
        (AddVector(1, a_vector().numpy()), "AddVector.vector is a ndarray: give a tensor"),  # type: ignore[arg-type]  # refused
        (AddVector(1, a_vector().long()), r"AddVector.vector is of torch\.int64"),
        (AddVector(1, a_vector(value=torch.nan)), r"AddVector.vector is not finite in the model's number format"),
        (AddVector(1, a_vector().double() * 1e300), "AddVector.vector is not finite"),
        (AddVector(1, a_vector(value=0.0)), "AddVector.vector is zero .* would change nothing"),
        (AddVector(1, a_vector().double() * 1e-300), "AddVector.vector is zero in the model's number format"),
        (ReplaceResidual(7, a_vector()), "ReplaceResidual.layer=7 must be"),
        (ReplaceResidual(1, a_vector(3)), "ReplaceResidual.vector has the shape"),
        (ReplaceResidual(1, a_vector(value=torch.inf)), "ReplaceResidual.vector is not finite"),
        (ReplaceResidual(1, a_vector(), share=0), "ReplaceResidual.share=0 must be a finite number other than 0"),
        (ReplaceResidual(1, a_vector(), share=torch.nan), "ReplaceResidual.share=nan must be"),
        (ReplaceResidual(1, a_vector(), share="all"), "ReplaceResidual.share='all' must be"),  # type: ignore[arg-type]  # refused
        (SetHeads((), values()), "SetHeads.heads is empty, so it would change nothing"),
        (SetHeads(((3, 0),), values()), "SetHeads.heads: layer=3 must be one of 0 to 2"),
        (SetHeads(((0, 4),), values()), "SetHeads.heads: head=4 must be one of 0 to 3, the heads of a layer"),
        (SetHeads((1, 2), values()), r"SetHeads.heads names 1, which is no \(layer, head\)"),  # type: ignore[arg-type]  # refused
        (
            SetHeads(((0, 0), (1, 2)), values()[:2]),
            r"values has the shape \(2, 4, 12\), where a number is due, or \(2, 12\), .*, or \(3, 4, 12\), one for",
        ),
        (SetHeads(((0, 0),), values()[0, :3]), r"values has the shape \(3, 12\), where a number is due, or \(1, 12\)"),
        (SetHeads(((0, 0),), a_vector(12)), r"values has the shape \(12,\), where"),
        (SetHeads(((0, 0), (0, 0)), values()[0, :2]), "SetHeads.heads names a head twice"),
        (SetHeads(((0, 0),), values(torch.nan)), r"SetHeads.values of head 0\.0 is not finite"),
        (SetHeads(((0, 0),), values(torch.nan)[0, :1]), r"SetHeads.values of head 0\.0 is not finite"),
        (SetHeads(((0, 0),), torch.inf), r"SetHeads.values of head 0\.0 is not finite"),
        (SetHeads(((0, 0),), [1.0]), r"SetHeads.values is a list: give a tensor"),  # type: ignore[arg-type]  # refused
        (SetHeads(((0, 0),), values()[0, :1].long()), r"SetHeads.values is of torch\.int64"),
    ],
)
def test_an_edit_that_does_not_fit_or_changes_nothing_is_refused_at_once(
    lm: EditableModel, edits: Any, said: str
) -> None:
    with refused(ConfigError, said) as error:
        lm.edited(edits)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("positions", ["last", "prompt", "", None])
def test_unknown_positions_are_refused_at_once(lm: EditableModel, positions: Any) -> None:
    with refused(ConfigError, f"positions={positions!r} must be one of last_prompt, all, generated"):
        lm.edited(AddVector(1, a_vector()), positions)


def test_values_of_heads_that_are_not_set_may_be_anything(lm: EditableModel) -> None:
    some = values(torch.nan)
    some[0, 1] = 1.0
    with lm.edited(SetHeads(((0, 1),), some)), torch.no_grad():
        assert lm.model(IDS).logits.isfinite().all()


@pytest.mark.parametrize("engine", ["naive", "expanded", "shared_prefix"])
def test_heads_are_set_alike_however_their_values_are_given(lm: EditableModel, engine: str) -> None:
    heads = ((2, 3), (0, 1), (2, 0))
    own = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    whole = values(torch.nan)
    zeros = values(0.0)
    for number, (layer, head) in enumerate(heads):
        whole[layer, head] = own[number]
    for given, due in ((own, whole), (0.0, zeros), (0, zeros), (torch.tensor(0.0), zeros)):
        one, other = SetHeads(heads, given), SetHeads(heads, due)
        found, expected = make_engine(lm, engine, 64).target_logprobs([PROMPT], [one, other])[0]
        assert abs(found - expected) <= 1e-6
        logits = []
        for edit in (one, other):
            with lm.edited(edit), torch.no_grad():
                logits.append(lm.model(IDS).logits)
        assert torch.equal(*logits)
    assert abs(expected - make_engine(lm, engine, 64).target_logprobs([PROMPT], [None])) > 1e-3


# What was never edited


def test_a_block_without_a_forward_is_an_error(lm: EditableModel) -> None:
    with refused(ModelError, "No forward of the model ran inside the block"), lm.edited(AddVector(1, a_vector())):
        pass


@pytest.mark.parametrize("n_new", [0, 1])
def test_generated_tokens_that_never_ran_are_an_error(lm: EditableModel, n_new: int) -> None:
    with (
        refused(ModelError, "positions='generated' met no generated token"),
        lm.edited(AddVector(1, a_vector()), "generated"),
    ):
        lm.model.generate(IDS, max_new_tokens=n_new) if n_new else lm.model(IDS)


# Where it is not known what the prompt is


def on_a_cache_from_elsewhere(lm: EditableModel) -> Callable[[], Any]:
    cache = lm.model(IDS, use_cache=True).past_key_values
    return lambda: lm.model(torch.tensor([[3]]), past_key_values=cache)


def two_tokens_on_a_cache(lm: EditableModel) -> Callable[[], Any]:
    def run() -> None:
        cache = lm.model(IDS, use_cache=True).past_key_values
        lm.model(torch.tensor([[3, 4]]), past_key_values=cache)

    return run


def on_a_cache_cut_into_the_prompt(lm: EditableModel) -> Callable[[], Any]:
    def run() -> None:
        cache = lm.model(IDS, use_cache=True).past_key_values
        cache.crop(-2)
        lm.model(torch.tensor([[3]]), past_key_values=cache)

    return run


def generate_on_a_cache(lm: EditableModel) -> Callable[[], Any]:
    cache = lm.model(IDS[:, :3], use_cache=True).past_key_values
    return lambda: lm.model.generate(IDS, past_key_values=cache, max_new_tokens=2)


def generate_in_generate(lm: EditableModel) -> Callable[[], Any]:
    def again(*_args: Any) -> bool:
        lm.model.generate(IDS, max_new_tokens=2)
        return True

    return lambda: lm.model.generate(IDS, max_new_tokens=3, stopping_criteria=[again])


def forward_in_generate(lm: EditableModel) -> Callable[[], Any]:
    def other(_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores + 0.1 * lm.model(IDS[:, :2]).logits[:, -1]

    return lambda: lm.model.generate(IDS, max_new_tokens=3, logits_processor=[other])


def running(**given: Any) -> Callable[[EditableModel], Callable[[], Any]]:
    return lambda lm: lambda: lm.model(IDS, **given)


def generating(**given: Any) -> Callable[[EditableModel], Callable[[], Any]]:
    return lambda lm: lambda: lm.model.generate(**{"inputs": IDS, "max_new_tokens": 4, **given})


def on_a_static_cache(lm: EditableModel) -> Callable[[], Any]:
    return lambda: lm.model.generate(IDS, max_new_tokens=3, cache_implementation="static")


def assisted(lm: EditableModel) -> Callable[[], Any]:
    return lambda: lm.model.generate(IDS, max_new_tokens=6, assistant_model=endless("gpt2").model)


REPEATING = torch.tensor([[5, 9, 40, 7, 11, 5, 9, 40, 7, 11, 5, 9, 40]])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (running(position_ids=torch.tensor([[0, 1, 2, 0, 1]])), "position_ids start again within a row"),
        (running(position_ids=torch.arange(5)[None, None]), r"position_ids are \(1, 1, 5\)"),
        (running(cu_seq_lens_q=torch.tensor([0, 3, 5])), "cu_seq_lens_q packs several prompts into a row"),
        (running(attention_mask=torch.tensor([[1, 1, 1, 2, 2]])), "attention_mask holds other values than 0 and 1"),
        (running(attention_mask=torch.ones(1, 4)), r"attention_mask is \(1, 4\), where .*\(1, 5\) only"),
        (running(attention_mask=torch.ones(1, 1, 5, 5)), r"attention_mask is \(1, 1, 5, 5\)"),
        (running(attention_mask={"full_attention": None}), "attention_mask is dict"),
        (running(attention_mask=torch.zeros(1, 5).long()), "Row 0 of attention_mask has no token of a prompt"),
        (running(past_key_values=((IDS,),)), "past_key_values is a tuple"),
        (on_a_cache_from_elsewhere, "past_key_values holds 5 tokens that no forward inside the block began"),
        (two_tokens_on_a_cache, "A forward runs 2 tokens on a cache of 5"),
        (on_a_cache_cut_into_the_prompt, "A forward runs 1 tokens on a cache of 3, whose prompt has 5"),
        (lambda lm: lambda: lm.model.base_model(IDS), r"model\.layers\.1 ran outside a forward of the whole model"),
        (generate_on_a_cache, "generate was given past_key_values with 3 tokens"),
        (generate_in_generate, "generate was called inside generate"),
        (forward_in_generate, "generate ran tokens 0 to 2 where all up to 6 was due"),
        (generating(inputs=REPEATING, prompt_lookup_num_tokens=3), "cannot follow assisted decoding"),
        (assisted, "cannot follow assisted decoding"),
        (generating(prefill_chunk_size=2), "generate ran tokens 0 to 2 where all up to 5 was due"),
        (generating(guidance_scale=1.5), "guidance by a second prompt"),
        (on_a_static_cache, "attention_mask is"),
    ],
)
def test_what_leaves_the_prompt_unknown_is_refused_in_one_line(
    lm: EditableModel, make: Callable[[EditableModel], Callable[[], Any]], said: str
) -> None:
    run = make(lm)
    with refused(ModelError, said) as error, lm.edited(AddVector(1, a_vector())):
        run()
    assert "\n" not in str(error.value)


# Engines


@pytest.mark.parametrize(
    "run",
    [
        *(
            lambda lm, mode=mode: make_engine(lm, mode, 64).last_token([PROMPT])
            for mode in ("naive", "auto", "expanded")
        ),
        lambda lm: make_engine(lm, "auto", 64).patch_heads([PROMPT], values(), [Head(0, 0)]),
        lambda lm: make_engine(lm, "auto", 64).inject([PROMPT], a_vector()[None, None], [Cell(0, 1.0)]),
        lambda lm: make_engine(lm, "expanded", 64).inject([PROMPT], a_vector()[None, None], [Cell(0, 1.0)]),
        lambda lm: score_answers(make_engine(lm, "auto", 64), [PROMPT], [None], "\n"),
        lambda lm: make_engine(lm, "auto", 64).target_logprobs([PROMPT], [None]),
        selfcheck,
        lambda lm: wrap(lm.model, lm.tokenizer),
    ],
)
def test_engines_do_not_run_beside_a_users_edits(lm: EditableModel, run: Callable[[EditableModel], Any]) -> None:
    with (
        refused(ModelError, "llama is being edited, and engines edit it themselves"),
        lm.edited(AddVector(1, a_vector())),
    ):
        run(lm)


def test_the_prompt_of_a_cache_that_is_used_again_is_the_new_one(lm: EditableModel) -> None:
    cache = DynamicCache()
    with lm.edited(AddVector(1, a_vector())), torch.no_grad():
        lm.model(IDS, past_key_values=cache)
        cache.crop(-5)
        lm.model(IDS[:, :2], past_key_values=cache)
        lm.model(IDS[:, 2:3], past_key_values=cache)
