"""Measure Step6's second half (controls, ablations, baselines, whole answers), relative to its arithmetic and to plain
forwards."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.measure import product_speed, seconds
from benchmarks.subjects import EIGHT_RELATIONS, demo_trials
from fv.config import EvaluationConfig
from fv.evaluation.evaluation import Evaluation
from fv.heads.effects import KEYS, Ranking
from fv.heads.relations import indirect_effects
from fv.interventions.compute import Compute
from fv.interventions.edit import LastTokenEdit
from fv.interventions.engine import AnswerReads, Cell, Engine
from fv.interventions.engines import make_engine
from fv.interventions.naive import NaiveEngine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.pricing.flops import prefix_flops, row_flops
from fv.pricing.shape import Shape
from fv.progress import Advance, ignore_progress
from fv.vectors.function_vector import function_vector
from fv.work.driver import SERIAL

K = 10
SAMPLED = 5
"""Number of plain forwards that are timed per kind of prompt."""


class RecordedEngine:
    """An engine that records the size and time of each call of the second half."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.lm, self.shape = engine, engine.lm, Shape.of(engine.lm)
        self.calls: list[dict[str, Any]] = []
        self._seen: set[Prompt] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def target_logprobs(self, prompts: Sequence[Prompt], edits: Sequence[LastTokenEdit]) -> torch.Tensor:
        """Record a call of `Engine.target_logprobs`."""
        return self._timed("search for cells", prompts, edits, 0, lambda: self.engine.target_logprobs(prompts, edits))

    def answers(
        self, prompts: Sequence[Prompt], edits: Sequence[LastTokenEdit], advance: Advance = ignore_progress
    ) -> list[AnswerReads]:
        """Record a call of `Engine.answers`."""
        return self._timed("answers", prompts, edits, 1, lambda: self.engine.answers(prompts, edits, advance))

    def _timed(
        self, what: str, prompts: Sequence[Prompt], edits: Sequence[LastTokenEdit], answers: int, run: Callable[[], Any]
    ) -> Any:
        start = time.perf_counter()
        found = run()
        took = time.perf_counter() - start
        new = [prompt for prompt in prompts if prompt not in self._seen]
        self._seen.update(new)
        flops = sum(prefix_flops(self.shape, len(prompt.token_ids) - 1) for prompt in new)
        flops += sum(edit_flops(self.shape, prompt, edit, answers) for prompt in prompts for edit in edits)
        tokens = sum(len(prompt.token_ids) for prompt in prompts) / len(prompts)
        call = {"what": what, "tokens": tokens, "prompts": len(prompts), "edits": len(edits)}
        self.calls.append({**call, "seconds": took, "flops": flops, "prompt": prompts[0]})
        return found


def edit_flops(shape: Shape, prompt: Prompt, edit: LastTokenEdit, answers: int) -> int:
    """FLOP of a row under an edit, with `answers=1` followed by its answer's tokens, whose last one is not read out."""
    first = shape.n_layers if edit is None else edit.first_block
    n_prefix, n_answer = len(prompt.token_ids) - 1, answers * len(prompt.answer)
    readout = 2 * shape.readout_weights
    return (1 + n_answer) * row_flops(shape, n_prefix, first) - (readout if answers else 0)


def measure_second_half(
    lm: LanguageModel, cells: Sequence[Cell], max_rows: int, repeats: int = 2
) -> list[dict[str, Any]]:
    """Measure one relation of the demo with one vector and all conditions: one row per call, and a row of the total."""
    trials = demo_trials(lm)
    # The cost of comparing vectors does not depend on their heads.
    middle = [lm.n_layers // 2 + i for i in range(-(-2 * K // lm.n_heads))]
    effects = indirect_effects(lm, trials, layers=middle, n_trials=2, compute=Compute(progress=False))
    q_id = EIGHT_RELATIONS[0]
    vector, ranking = function_vector(lm, effects[q_id], k=K), Ranking(KEYS[0], K)
    best: list[dict[str, Any]] = []
    total, peak = float("inf"), product_speed(lm)
    for _ in range(repeats):
        engine = RecordedEngine(make_engine(lm, "auto", max_rows))
        evaluation = Evaluation(lm, engine, trials.snapshot, EvaluationConfig(), ranking, effects, seed=42)
        plan = [(vector, [q_id])]
        grid = SERIAL.run(evaluation.grid_flow(plan, cells, evaluation.parts(plan, cells)), "grid")
        start = time.perf_counter()
        evaluation.results(grid, SERIAL.run(evaluation.held_out_flow(grid), "test trials"))
        took = time.perf_counter() - start
        peak = max(peak, product_speed(lm))
        if took < total:
            total, best = took, engine.calls
    rows = [{"model": lm.name, **_row(call, call["seconds"], peak)} for call in best]
    plain = sum(_plain_seconds(lm, call) for call in best)
    flops = sum(call["flops"] for call in best)
    whole = {"what": "all", "tokens": "", "prompts": "", "edits": sum(call["edits"] for call in best), "flops": flops}
    return [*rows, {"model": lm.name, **_row(whole, total, peak), "vs_plain": plain / total}]


def _row(call: dict[str, Any], took: float, peak: float) -> dict[str, Any]:
    shown = {key: call[key] for key in ("what", "tokens", "prompts", "edits")}
    floor = call["flops"] / peak
    return {**shown, "seconds": took, "floor": floor, "of_sgemm": floor / took, "vs_plain": ""}


def _plain_seconds(lm: LanguageModel, call: dict[str, Any]) -> float:
    """Seconds of one full forward for each (prompt, edit) of a call, estimated from a few forwards of one prompt."""
    prompt, naive = call["prompt"], NaiveEngine(lm)
    edits: list[LastTokenEdit] = [None] * SAMPLED
    run = naive.answers if call["what"] == "answers" else naive.target_logprobs
    return seconds(lambda: run([prompt], edits), 1) / SAMPLED * call["prompts"] * call["edits"]
