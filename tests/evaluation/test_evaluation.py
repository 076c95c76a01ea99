"""Trial rows, their means, and the transfer matrix."""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.config import StatsConfig
from fv.evaluation.summary import summarise, summary_json
from fv.evaluation.trial_rows import METRICS, TRIAL_COLUMNS, EvalTrial, inject_vectors, sort_trials
from fv.evaluation.trial_rows import trial_rows as rows_of
from fv.interventions.engine import Cell, Engine
from fv.interventions.naive import NaiveEngine
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.progress import Advance, ignore_progress
from fv.vectors.vector import Vector

STATS = StatsConfig(n_resamples=100)


def evaluate(
    engine: Engine,
    vectors: Sequence[Vector],
    trials: Sequence[EvalTrial],
    cells: Sequence[Cell],
    advance: Advance = ignore_progress,
) -> pd.DataFrame:
    """Trial rows of every vector in every trial at every cell."""
    before, after = inject_vectors(engine, vectors, [trial.prompt for trial in trials], cells, None, advance)
    tables = [rows_of(vector, trials, cells, before, after[:, i]) for i, vector in enumerate(vectors)]
    return sort_trials(pd.concat(tables, ignore_index=True))


def summary_of(rows: pd.DataFrame) -> dict[str, Any]:
    return summary_json(rows, {}, STATS, seed=0)


def row(fv: str, qid: str, cell: tuple[int, float], trial: int, numbers: tuple[float, ...]) -> dict[str, Any]:
    """One trial row; `numbers` are baseline and injected log p, p and rank."""
    before, after, p_before, p_after, rank_before, rank_after = numbers
    return {
        "trial_id": f"{qid}/{trial}",
        "fv": fv,
        "fv_kind": "qid",
        "fv_source": fv,
        "k": 10,
        "norm": 2.0,
        "eval_qid": qid,
        "part": "test" if trial else "dev",
        "layer": cell[0],
        "alpha": cell[1],
        "baseline_logprob": before,
        "injected_logprob": after,
        "delta_logprob": after - before,
        "baseline_p": p_before,
        "injected_p": p_after,
        "delta_p": p_after - p_before,
        "baseline_rank": rank_before,
        "injected_rank": rank_after,
        "baseline_correct": rank_before == 0,
        "injected_correct": rank_after == 0,
        "baseline_tied": False,
        "injected_tied": False,
    }


def test_a_summary_row_is_the_mean_over_trials() -> None:
    rows = pd.DataFrame(
        [
            row("past", "antonym", (3, 0.5), 0, (-4.0, -1.0, 0.1, 0.5, 7, 0)),
            row("past", "antonym", (3, 0.5), 1, (-2.0, -3.0, 0.4, 0.2, 0, 5)),
            row("past", "antonym", (3, 0.5), 2, (-3.0, -2.0, 0.1, 0.2, 1, 0)),
            row("past", "antonym", (3, 0.5), 3, (-3.0, -1.0, 0.2, 0.3, 2, 0)),
        ]
    )
    (found,) = summarise(rows).to_dict("records")
    assert found == {
        "fv": "past",
        "eval_qid": "antonym",
        "layer": 3,
        "alpha": 0.5,
        "fv_kind": "qid",
        "fv_source": "past",
        "k": 10,
        "norm": 2.0,
        "n_trials": 4,
        "baseline_logprob": -3.0,
        "injected_logprob": -1.75,
        "mean_delta_logprob": 1.25,
        "baseline_accuracy": 0.25,
        "injected_accuracy": 0.75,
        "accuracy_delta": 0.5,
        "mean_delta_p": pytest.approx(0.1),
        "harm_rate": 0.25,
    }


def test_each_vector_relation_layer_and_alpha_has_a_row_of_its_own() -> None:
    keys = [
        ("a", "x", (0, 1.0)),
        ("a", "x", (0, 2.0)),
        ("a", "x", (1, 1.0)),
        ("a", "y", (0, 1.0)),
        ("b", "x", (0, 1.0)),
    ]
    rows = [row(*key, trial, (-5.0, -5.0 + i, 0.1, 0.1, 3, 3)) for i, key in enumerate(keys) for trial in range(i + 1)]
    summary = summarise(pd.DataFrame(rows[::-1]))
    found = summary[["fv", "eval_qid", "layer", "alpha", "n_trials", "mean_delta_logprob"]].values.tolist()
    assert found == [[fv, qid, *cell, i + 1, float(i)] for i, (fv, qid, cell) in enumerate(keys)]


logprobs = st.floats(-30, -1e-6)
probabilities = st.floats(0, 1)
numbers = st.tuples(logprobs, logprobs, probabilities, probabilities, st.integers(0, 3), st.integers(0, 3))


@st.composite
def trial_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of up to two vectors on up to two relations at up to four cells, three trials each."""
    keys = st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.sampled_from([(0, 1.0), (0, -0.5), (2, 1.0)]))
    chosen = draw(st.lists(keys, min_size=1, max_size=4, unique=True))
    return [row(*key, trial, draw(numbers)) for key in chosen for trial in range(3)]


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(rows=trial_rows(), data=st.data())
def test_the_summary_does_not_depend_on_the_order_of_rows(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(rows))
    one, two = (sort_trials(pd.DataFrame(order)) for order in (rows, shuffled))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert json.dumps(summary_of(one), allow_nan=False) == json.dumps(summary_of(two), allow_nan=False)


def test_the_summary_of_unsorted_rows_is_the_same() -> None:
    # `summary_json` promises to depend on the trial rows only; added up in another order, these differ in a last bit.
    injected = [-7.4, -5.5, -8.5, -1.7]
    rows = [row("a", "x", (0, 1.0), trial, (-2.0, value, 0.1, 0.1, 1, 1)) for trial, value in enumerate(injected)]
    assert summary_of(pd.DataFrame(rows[::-1])) == summary_of(pd.DataFrame(rows))


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(rows=trial_rows())
def test_the_matrix_holds_the_numbers_of_the_rows(rows: list[dict[str, Any]]) -> None:
    summary = summary_of(pd.DataFrame(rows))
    from_rows: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for entry in summary["rows"]:
        cell = {key: entry[key] for key in ("layer", "alpha", *METRICS)}
        from_rows.setdefault(entry["fv"], {}).setdefault(entry["eval_qid"], []).append(cell)
    assert summary["matrix"] == from_rows
    assert summary["fvs"] == sorted({r["fv"] for r in rows})
    assert summary["eval_qids"] == sorted({r["eval_qid"] for r in rows})
    assert summary["layers"] == sorted({r["layer"] for r in rows})
    assert summary["alphas"] == sorted({r["alpha"] for r in rows})
    assert summary["primary_metric"] == "mean_delta_logprob"


# On a model


def trials_of(qid: str, *prompts: tuple[int, ...]) -> list[EvalTrial]:
    return [
        EvalTrial(f"{qid}/{i}", qid, "test" if i else "dev", Prompt(ids[:-1], ids[-1:]))
        for i, ids in enumerate(prompts)
    ]


X = trials_of("x", (5, 17, 300, 8), (41, 9, 77))
Y = trials_of("y", (600, 2, 12, 13, 4, 1), (7, 31), (88, 3, 20000, 5))
CELLS = [Cell(0, 1.0), Cell(0, 3.0), Cell(2, -1.0)]


def vector(name: str, source: str | None, seed: int) -> Vector:
    kind = "global" if source is None else "qid"
    return Vector(name, kind, source, 2 * torch.randn(40, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("mode", ["naive", "shared_prefix"])
def test_evaluation_equals_one_forward_an_injection(tiny_lm: LanguageModel, mode: str) -> None:
    plan = [(vector("global", None, 0), [*X, *Y]), (vector("y", "y", 1), Y), (vector("z", "z", 2), Y)]
    engine = NaiveEngine(tiny_lm) if mode == "naive" else SharedPrefixEngine(tiny_lm, 16)
    done: list[int] = []
    rows = sort_trials(pd.concat([evaluate(engine, [v], on, CELLS, advance=done.append) for v, on in plan]))
    assert list(rows.columns) == TRIAL_COLUMNS
    assert len(rows) == sum(done) == (5 + 3 + 3) * 3
    table = rows.set_index(["fv", "trial_id", "layer", "alpha"])
    for injected, trials in plan:
        for trial in trials:
            for cell in CELLS:
                before, after = NaiveEngine(tiny_lm).inject([trial.prompt], injected.values[None, None], [cell])
                found: Any = table.loc[(injected.name, trial.trial_id, *cell), :]
                assert (found["eval_qid"], found["fv_kind"]) == (trial.q_id, injected.kind)
                assert found["baseline_logprob"] == pytest.approx(float(before.logprob), abs=2e-5)
                assert found["injected_logprob"] == pytest.approx(float(after.logprob), abs=2e-5)
                assert found["delta_logprob"] == found["injected_logprob"] - found["baseline_logprob"]
                assert found["baseline_p"] == pytest.approx(float(before.p), abs=2e-5)
                assert found["delta_p"] == pytest.approx(float(after.p - before.p[0]), abs=2e-5)
                assert abs(found["injected_rank"] - int(after.rank)) <= 3
                assert found["injected_correct"] == (found["injected_rank"] == 0)
                assert found["baseline_correct"] == (found["baseline_rank"] == 0)


def test_a_right_answer_counts_as_accuracy(tiny_llama: LanguageModel) -> None:
    # A vector along the answer's unembedding makes it the argmax, from the last block on.
    answer = 4242
    towards = tiny_llama.unembedding.weight[answer] / tiny_llama.unembedding.weight[answer].norm()
    strong = Vector("x", "qid", "x", 100 * towards)
    trials = trials_of("x", (5, 17, 300, answer), (41, 9, answer))
    (entry,) = summary_of(evaluate(SharedPrefixEngine(tiny_llama, 64), [strong], trials, [Cell(2, 1.0)]))["rows"]
    assert (entry["baseline_accuracy"], entry["injected_accuracy"], entry["accuracy_delta"]) == (0.0, 1.0, 1.0)
    assert entry["mean_delta_p"] > 0


def test_cells_and_vectors_evaluated_apart_are_the_rows_of_one_grid_bit_for_bit(tiny_lm: LanguageModel) -> None:
    vectors, trials = [vector("a", "x", 0), vector("b", "y", 1), vector("c", "y", 2)], [*X, *Y]
    for engine in (SharedPrefixEngine(tiny_lm, 16), SharedPrefixEngine(tiny_lm, 512)):
        parts = [evaluate(engine, some, trials, [c]) for some in (vectors[1:], vectors[:1]) for c in CELLS[::-1]]
        together = evaluate(engine, vectors, trials, CELLS)
        apart = sort_trials(pd.concat(parts, ignore_index=True))
        pd.testing.assert_frame_equal(apart, together, check_exact=True)
        assert json.dumps(summary_of(apart)) == json.dumps(summary_of(together))
