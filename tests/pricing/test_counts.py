"""What passes are priced at is what PyTorch counts of the matrix products that engines really run."""

from collections.abc import Callable, Sequence

import pytest
import torch
from families import tiny
from flop_oracle import CountedFlops
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.config import ComputeConfig, SweepMode
from fv.interventions.edits import AddToMLP, AddVector, Edits, LastTokenEdit, SetHeads
from fv.interventions.engine import Cell, Engine, Head
from fv.interventions.engines import make_engine
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.pricing.operations import total
from fv.pricing.priced_engine import PricedEngine
from fv.pricing.shape import Shape
from fv.pricing.stand_in import StandIn
from fv.pricing.workload import engine_of

FEW_PER_CENT = 0.03
"""What is left out: attention to padding, single logits, and what a patch adds."""
ASKED = st.lists(st.integers(4, 20), min_size=1, max_size=5)
Ask = Callable[[Engine, list[Prompt]], object]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    """Two that share prefixes."""
    return proved(request.param)


def proved(family: str) -> LanguageModel:
    """A tiny model; which element-wise code may be fused in it is looked at once, before anything is counted."""
    # In float64, experts are products that PyTorch counts.
    lm = tiny(family, torch.float64 if family == "mixtral" else torch.float32)
    make_engine(lm, "auto", 64).target_logprobs(prompts_of([4]), [None])
    return lm


def prompts_of(lengths: Sequence[int], n_answer: int = 1) -> list[Prompt]:
    return [Prompt(tuple((5 * i + n) % 90 for i in range(n)), tuple(range(3, 3 + n_answer))) for n in lengths]


def priced_engine(lm: LanguageModel, mode: str, max_rows: int) -> PricedEngine:
    stand_in = StandIn(lm.model, lm.tokenizer, lm.spec, lm.name, lm.fingerprint)
    return engine_of(stand_in, Shape.of(lm), ComputeConfig(sweep=SweepMode(mode), max_rows=max_rows))


def counted(lm: LanguageModel, mode: str, max_rows: int, ask: Ask, prompts: list[Prompt]) -> tuple[float, float]:
    """Floating-point operations, as priced and as PyTorch counts them."""
    engine = priced_engine(lm, mode, max_rows)
    ask(engine, prompts)
    (work, peak), choices = engine.taken(), engine.taken_choices()
    work = total([work, choices])
    assert peak > 0
    with CountedFlops() as counter:
        ask(make_engine(lm, mode, max_rows), prompts)
    return work.flops(engine.shape), counter.total


def patch(engine: Engine, prompts: list[Prompt]) -> object:
    lm = engine.lm
    heads = [Head(layer, head) for layer in range(lm.n_layers) for head in range(lm.n_heads)]
    return engine.patch_heads(prompts, torch.zeros(lm.n_layers, lm.n_heads, lm.head_dim), heads)


def inject(engine: Engine, prompts: list[Prompt]) -> object:
    vectors = torch.ones(2, engine.lm.d_model).expand(len(prompts), -1, -1)
    return engine.inject(prompts, vectors, [Cell(layer, alpha) for layer in (0, 1) for alpha in (0.5, 1.0)])


def edits(lm: LanguageModel) -> list[LastTokenEdit]:
    added: list[LastTokenEdit] = [
        AddVector(layer, torch.ones(lm.d_model)) for layer in range(lm.n_layers) for _ in "ab"
    ]
    heads = SetHeads(((1, 0), (2, 1)), torch.zeros(lm.n_layers, lm.n_heads, lm.head_dim))
    several = Edits((AddVector(2, torch.ones(lm.d_model)), AddToMLP(1, torch.ones(lm.d_model)), heads))
    return [None, *added, heads, several]


ASKS: dict[str, Ask] = {
    "last_token": lambda engine, prompts: engine.last_token(prompts),
    "patch_heads": patch,
    "inject": inject,
    "target_logprobs": lambda engine, prompts: engine.target_logprobs(prompts, edits(engine.lm)),
    "answers": lambda engine, prompts: engine.answers(prompts, edits(engine.lm)),
    "divergences": lambda engine, prompts: engine.divergences(prompts, edits(engine.lm)),
    "divergences_from_others": lambda engine, prompts: engine.divergences(
        prompts, edits(engine.lm), prompts_of([len(prompt.token_ids) + 5 for prompt in prompts], 2)
    ),
}


@pytest.mark.parametrize("ask", ASKS)
@settings(max_examples=6, deadline=None)
@given(lengths=ASKED, max_rows=st.integers(16, 200))
def test_a_call_is_priced_at_what_it_runs(lm: LanguageModel, ask: str, lengths: list[int], max_rows: int) -> None:
    priced, found = counted(lm, "auto", max_rows, ASKS[ask], prompts_of(lengths, 2))
    assert priced == pytest.approx(found, rel=FEW_PER_CENT)


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize(("family", "mode"), [("llama", "naive"), ("gemma2", "auto"), ("mixtral", "auto")])
def test_so_is_that_of_other_engines_and_of_experts(family: str, mode: str, ask: str) -> None:
    priced, found = counted(proved(family), mode, 64, ASKS[ask], prompts_of([9, 9, 14], 2))
    assert priced == pytest.approx(found, rel=2 * FEW_PER_CENT)


@pytest.mark.parametrize("points", [0, 2])
def test_estimates_of_all_heads_are_priced_at_what_they_run(lm: LanguageModel, points: int) -> None:
    prompts = prompts_of([12, 12, 12])
    engine, real = priced_engine(lm, "auto", 256), make_engine(lm, "auto", 256)
    values = torch.zeros(lm.n_layers, lm.n_heads, lm.head_dim)
    method = "integrated" if points else "gradient"
    shared = isinstance(real.engine, SharedPrefixEngine)
    for part in [prompts] if shared else [[prompt] for prompt in prompts]:
        engine.head_scores(part, values, method, points)
    with CountedFlops() as counter:
        for part in [prompts] if shared else [[prompt] for prompt in prompts]:
            real.head_scores(part, values, method, points or 1)
    assert engine.taken()[0].flops(engine.shape) == pytest.approx(counter.total, rel=2 * FEW_PER_CENT)


def test_prompts_that_are_kept_run_once() -> None:
    engine, prompts = priced_engine(tiny("llama"), "auto", 64), prompts_of([9, 14])
    with engine.keeping(2**30):
        engine.last_token(prompts)
        assert engine.taken()[0].n_prompts == 2
        engine.last_token(prompts)
        assert engine.taken()[0].n_prompts == 0
    engine.last_token(prompts)
    assert engine.taken()[0].n_prompts == 2


@pytest.mark.parametrize("ask", ASKS)
@settings(max_examples=6, deadline=None)
@given(before=ASKED, lengths=ASKED, max_rows=st.integers(16, 200))
def test_a_call_that_is_priced_by_length_costs_the_same_whatever_was_asked_before(
    lm: LanguageModel, ask: str, before: list[int], lengths: list[int], max_rows: int
) -> None:
    fresh, used = (priced_engine(lm, "auto", max_rows) for _ in range(2))
    assert fresh.prices_by_length
    ASKS[ask](used, prompts_of(before, 2))
    used.taken()
    for engine, first in ((fresh, 0), (used, 7)):
        ASKS[ask](engine, [Prompt(tuple(range(first, first + n)), (1, 2)) for n in lengths])
    assert fresh.taken() == used.taken()
