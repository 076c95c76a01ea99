"""Memory that runs out makes passes smaller, and changes nothing else."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from families import tiny
from hypothesis import given
from hypothesis import strategies as st
from short_memory import short_of_memory
from sweep_checks import all_cells, all_heads, few, for_each, prompts_of, values_of, vectors_of
from torch import Tensor

from fv.errors import MemoryLackError
from fv.interventions.edits import AddVector
from fv.interventions.engines import make_engine
from fv.interventions.halving import HalvingEngine
from fv.interventions.prompt_batch import PromptBatch
from fv.models.language_model import LanguageModel
from fv.progress import Advance

MODES = ["naive", "expanded", "shared_prefix"]
LENGTHS = [3, 9, 5, 9, 1, 7]
ROWS = 64

Call = Callable[[HalvingEngine, Advance], list[Tensor]]


def prompts(lm: LanguageModel) -> list[Any]:
    return [p._replace(answer=(p.target, 7), wrong=(5, 6)) for p in prompts_of(lm, LENGTHS)]


def patched(engine: HalvingEngine, advance: Advance) -> list[Tensor]:
    found = engine.patch_heads(prompts(engine.lm), values_of(engine.lm), all_heads(engine.lm), advance)
    return [found.unpatched, found.patched, found.unedited.head_outputs]


def injected(engine: HalvingEngine, advance: Advance) -> list[Tensor]:
    asked = prompts(engine.lm)
    before, after = engine.inject(asked, for_each(asked, vectors_of(engine.lm)), all_cells(engine.lm)[:4], advance)
    return [before.logprob, after.logprob]


def edited(engine: HalvingEngine, advance: Advance) -> list[Tensor]:
    edits = [
        None,
        *(AddVector(layer, vector) for layer in range(engine.lm.n_layers) for vector in vectors_of(engine.lm)),
    ]
    asked = prompts(engine.lm)
    answers = [read.scores.logprob for read in engine.answers(asked, edits, advance)]
    return [engine.target_logprobs(asked, edits), engine.divergences(asked, edits), *answers]


def estimated(engine: HalvingEngine, advance: Advance) -> list[Tensor]:
    asked, values = prompts(engine.lm), values_of(engine.lm)
    return [engine.head_scores(asked[part], values, "integrated", 2, advance) for part in engine.batches(asked, 8)]


def unedited(engine: HalvingEngine, _advance: Advance) -> list[Tensor]:
    run = engine.last_token(prompts(engine.lm))
    return [run.scores.logprob, run.head_outputs, run.residual]


CALLS: list[Call] = [unedited, patched, injected, edited, estimated]


def run(engine: HalvingEngine, call: Call) -> tuple[list[Tensor], int]:
    """What a call gives, and the steps that its progress tells."""
    steps: list[int] = []
    with torch.no_grad():
        found = call(engine, steps.append)
    assert all(step > 0 for step in steps)
    return found, sum(steps)


def assert_same(found: tuple[list[Tensor], int], due: tuple[list[Tensor], int], tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found[0], due[0], rtol=0, atol=tolerance)
    assert found[1] == due[1]


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@few
@given(call=st.sampled_from(CALLS), refused=st.sets(st.integers(1, 60), min_size=1, max_size=4))
def test_memory_that_runs_out_at_any_pass_changes_no_number_and_no_progress(
    tiny_llama: LanguageModel, mode: str, call: Call, refused: set[int]
) -> None:
    due = run(make_engine(tiny_llama, mode, ROWS), call)
    engine = make_engine(tiny_llama, mode, ROWS)
    sizes: list[int] = []
    engine.when_halved = sizes.append
    with short_of_memory(tiny_llama, lambda number, _: number in refused) as ran_out:
        found = run(engine, call)
    # One forward an edit is the same forward in passes of any size.
    assert_same(found, due, 0 if mode == "naive" and call is not estimated else 1e-5)
    assert sizes == [ROWS >> n for n in range(1, len(ran_out) + 1)]
    assert engine.max_rows == ROWS >> len(ran_out)


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError, MemoryError, torch.OutOfMemoryError])
@pytest.mark.parametrize(
    ("mode", "call"), [*(("shared_prefix", call) for call in CALLS), ("expanded", patched), ("expanded", edited)]
)
def test_passes_shrink_until_they_fit(
    tiny_llama: LanguageModel, mode: str, call: Call, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    due = run(make_engine(tiny_llama, mode, ROWS), call)
    engine = make_engine(tiny_llama, mode, ROWS)
    # A prompt of nine tokens alone fits, and so does its answer behind a few rows.
    with short_of_memory(tiny_llama, lambda _, rows: rows > 12, error) as ran_out:
        found = run(engine, call)
    assert_same(found, due)
    assert min(ran_out) > 12 and engine.max_rows < ROWS
    told = [record for record in caplog.records if "Memory ran out" in record.message]
    assert len(told) == len(ran_out)  # once each time


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "bloom"])
def test_every_kind_of_family_gets_by_with_less_memory(family: str) -> None:
    lm = tiny(family)
    for call in (patched, estimated):
        due, engine = run(make_engine(lm, "auto", ROWS), call), make_engine(lm, "auto", ROWS)
        with short_of_memory(lm, lambda number, _: number == 2):
            assert_same(run(engine, call), due)
        assert engine.max_rows == ROWS // 2


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_prompt_that_does_not_fit_alone_is_one_clear_error(tiny_llama: LanguageModel, mode: str) -> None:
    engine = make_engine(tiny_llama, mode, ROWS)
    with (
        short_of_memory(tiny_llama, lambda _, rows: rows >= 9 or mode == "expanded"),
        pytest.raises(MemoryLackError, match=r"on cpu with a single prompt of \w+ in a pass\. Shorter"),
    ):
        run(engine, patched)
    # Nothing of it is left in the model or the engine.
    assert_same(run(engine, patched), run(make_engine(tiny_llama, mode, ROWS), patched))


def test_other_errors_are_not_taken_for_a_lack_of_memory(tiny_llama: LanguageModel) -> None:
    class BrokenError(Exception):
        """What no engine can mend."""

    engine = make_engine(tiny_llama, "auto", ROWS)
    with short_of_memory(tiny_llama, lambda _, rows: rows > 2, BrokenError), pytest.raises(BrokenError):
        run(engine, patched)
    assert engine.max_rows == ROWS


def test_units_of_work_stay_as_they_were_when_passes_shrink(tiny_llama: LanguageModel) -> None:
    engine, asked = make_engine(tiny_llama, "auto", ROWS), prompts(tiny_llama)
    before = engine.batches(asked, 13)
    with short_of_memory(tiny_llama, lambda number, _: number <= 2):
        run(engine, patched)
    assert engine.max_rows == ROWS // 4
    assert engine.batches(asked, 13) == before != engine.engine.batches(asked, 13)


def test_prompts_that_are_kept_are_let_go_when_memory_runs_out(
    tiny_llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[weakref.ref[PromptBatch]] = []

    class Seen(PromptBatch):
        def __init__(self, *args: Any) -> None:
            ran.append(weakref.ref(self))
            super().__init__(*args)

    monkeypatch.setattr("fv.interventions.shared_prefix.PromptBatch", Seen)
    engine = make_engine(tiny_llama, "auto", ROWS)
    due = run(engine, patched)
    with engine.keeping(2**30):
        run(engine, patched)
        gc.collect()
        kept = [batch for batch in ran if batch() is not None]
        assert kept
        with short_of_memory(tiny_llama, lambda number, _: number == 1):
            assert_same(run(engine, patched), due)
        gc.collect()
        assert not any(batch() for batch in ran)
    assert_same(run(engine, patched), due)
