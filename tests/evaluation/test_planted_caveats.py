"""Every sentence on what numbers do not show comes out where its case is planted, and nowhere else."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import fv
from fv.evaluation.caveats import caveats
from fv.heads.effects import Effects
from fv.heads.indirect_effect import TrialEffects
from fv.heads.ranking import Ranking
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel

Q = "parity"
RANKING = Ranking("mean_delta_logprob", 2)
EDGE, STEEP = "Chosen cells lie at an edge of the grid", "The residual stream's norm grows"
FLAT, NEAR_ZERO = "One dimension holds over half", "Heads whose effects do not differ from zero"
SHOWN = "Most right answers of eval trials stand in fit prompts"


@pytest.fixture(scope="module")
def trials(tiny_llama: LanguageModel) -> fv.Trials:
    """A relation of 30 pairs, each with an answer of its own."""
    pairs = [(f"n{i}", f"{chr(97 + i % 26)}{i}") for i in range(30)]
    return fv.sample_trials({Q: pairs}, tiny_llama, demos=2, fit=4, held_out=6)


@pytest.fixture(scope="module")
def measured(tiny_llama: LanguageModel, trials: fv.Trials) -> Effects:
    """Effects that all differ from zero, in a stream that does not grow."""
    effects = fv.indirect_effects(tiny_llama, trials)
    return with_norms(with_effects(effects), [1.0, 2.0, 3.0])


def with_effects(effects: Effects, heads: Sequence[Head] = (), n_null: int = 0) -> Effects:
    """Effects near 1 of these heads, but of the last `n_null` as often 1 as -1; all other heads have less, near -2."""
    shape = effects.effects[Q].delta_logprob.shape
    planted = np.linspace(-2.01, -1.99, shape[0])[:, None, None] * np.ones(shape)
    for i, head in enumerate(heads):
        is_null = i >= len(heads) - n_null
        planted[:, head.layer, head.head] = [-1.0, 1.0, -1.0, 1.0] if is_null else [0.99, 1.0, 1.0, 1.01]
    return replace(effects, effects={Q: TrialEffects(planted, planted)})


def with_norms(effects: Effects, norms: list[float]) -> Effects:
    means = replace(effects.means[Q], residual_norm=torch.tensor(norms))
    return replace(effects, means={Q: means})


def grid(best: tuple[int, float], layers: list[int], alphas: list[float], source: str = Q) -> pd.DataFrame:
    """Trial rows of one vector on the relation, two dev trials and two test trials, best at one cell."""
    rows = [
        {"fv": source, "fv_kind": "qid", "fv_source": source, "k": 2, "eval_qid": Q, "layer": layer, "alpha": alpha}
        | {"trial_id": f"{Q}:eval:{n:04}", "part": part, "delta_logprob": float((layer, alpha) == best)}
        | {"baseline_tied": False, "injected_tied": False}
        for layer in layers
        for alpha in alphas
        for n, part in enumerate(("dev", "dev", "test", "test"))
    ]
    return pd.DataFrame(rows)


INSIDE = grid((1, 1.0), [0, 1, 2], [0.5, 1.0, 2.0])


def starting(lines: list[str], beginning: str) -> list[str]:
    return [line for line in lines if line.startswith(beginning)]


def test_a_run_with_nothing_planted_says_nothing(
    tiny_llama: LanguageModel, trials: fv.Trials, measured: Effects
) -> None:
    vector = fv.function_vector(tiny_llama, measured[Q], k=2)
    assert caveats(trials.snapshot, measured, INSIDE, [vector], RANKING) == []


@pytest.mark.parametrize(
    ("best", "layers", "alphas", "edge"),
    [
        ((1, 2.0), [0, 1, 2], [0.5, 1.0, 2.0], "alpha 2, the largest of the grid (parity)"),
        ((1, 0.5), [0, 1, 2], [0.5, 1.0, 2.0], "alpha 0.5, the smallest of the grid (parity)"),
        ((1, 1.0), [1, 2], [0.5, 1.0, 2.0], "layer 1, the first of the grid (parity)"),
        ((1, 1.0), [0, 1], [0.5, 1.0, 2.0], "layer 1, the last of the grid (parity)"),
        (
            (1, 2.0),
            [0, 1],
            [1.0, 2.0],
            "alpha 2, the largest of the grid (parity); layer 1, the last of the grid (parity)",
        ),
        # Beyond the first and the last block there is no layer, and nothing is chosen on one alpha or one layer.
        ((0, 1.0), [0, 1, 2], [0.5, 1.0, 2.0], None),
        ((2, 1.0), [0, 1, 2], [0.5, 1.0, 2.0], None),
        ((1, 1.0), [0, 1, 2], [1.0], None),
        ((1, 1.0), [1], [0.5, 1.0, 2.0], None),
    ],
)
def test_a_chosen_cell_at_an_edge_of_the_grid_is_named(
    trials: fv.Trials,
    measured: Effects,
    best: tuple[int, float],
    layers: list[int],
    alphas: list[float],
    edge: str | None,
) -> None:
    said = caveats(trials.snapshot, measured, grid(best, layers, alphas))
    due = [f"{EDGE}: {edge}. A wider grid may hold a better one."] if edge else []
    assert starting(said, EDGE) == due


def test_cells_of_other_relations_vectors_and_given_cells_lie_at_no_edge(trials: fv.Trials, measured: Effects) -> None:
    other = grid((1, 2.0), [0, 1, 2], [0.5, 1.0, 2.0], source="spelling")
    assert not starting(caveats(trials.snapshot, measured, other), EDGE)
    given = INSIDE[(INSIDE["layer"] == 1) & (INSIDE["alpha"] == 2.0)].assign(part="test")
    assert not starting(caveats(trials.snapshot, measured, given), EDGE)


@pytest.mark.parametrize(
    ("norms", "fold"), [([1.0, 20.0, 99.0], None), ([2.0, 60.0, 200.0], "100"), ([3.0, 9000.0, 30.0], "3,000")]
)
def test_a_stream_that_grows_a_hundredfold_is_told(
    trials: fv.Trials, measured: Effects, norms: list[float], fold: str | None
) -> None:
    said = starting(caveats(trials.snapshot, with_norms(measured, norms), INSIDE), STEEP)
    assert [line.partition("-fold")[0] for line in said] == ([f"{STEEP} {fold}"] if fold else [])


@pytest.mark.parametrize(("first", "told"), [(4.0, True), (2.9, False)])
def test_a_vector_that_lies_in_one_dimension_is_told(trials: fv.Trials, first: float, told: bool) -> None:
    # Nine other dimensions of 1 each: the first holds 16 of 25, or 8.41 of 17.41, of the squared norm.
    values = torch.tensor([first, *[1.0] * 9])
    said = caveats(trials.snapshot, None, INSIDE, [fv.Vector.of(values, "mine")])
    assert [line.partition(")")[0] for line in starting(said, FLAT)] == (
        [f"{FLAT} of a vector's squared norm (mine 64%"] if told else []
    )


def test_a_vector_of_zeros_lies_in_no_dimension(trials: fv.Trials) -> None:
    said = caveats(trials.snapshot, None, INSIDE, [fv.Vector.of(torch.zeros(4), "nothing")])
    assert not starting(said, FLAT)


HEADS = [Head(0, 0), Head(0, 1), Head(1, 0), Head(1, 1)]


@pytest.mark.parametrize(("k", "n_null", "told"), [(3, 0, False), (3, 1, False), (4, 2, True), (3, 3, True)])
def test_a_vector_half_of_whose_heads_have_no_effect_is_told(
    tiny_llama: LanguageModel, trials: fv.Trials, measured: Effects, k: int, n_null: int, told: bool
) -> None:
    planted = with_effects(measured, HEADS[:k], n_null)
    vector = fv.function_vector(tiny_llama, planted[Q], k=k)
    assert {*vector.heads} == {*HEADS[:k]}
    said = starting(caveats(trials.snapshot, planted, INSIDE, [vector], RANKING), NEAR_ZERO)
    assert len(said) == told
    assert not told or f"({Q} {n_null} of {k})" in said[0]
    # It is not known how the heads were ranked.
    assert not starting(caveats(trials.snapshot, planted, INSIDE, [vector]), NEAR_ZERO)


@pytest.mark.parametrize(("hold_out", "told"), [("queries", True), ("outputs", False)])
def test_answers_that_fit_prompts_show_are_told_unless_they_are_held_out(
    tiny_llama: LanguageModel, hold_out: str, told: bool
) -> None:
    pairs = [(f"n{i}", ("even", "odd", "prime", "zero", "square", "cube")[i % 6]) for i in range(60)]
    own = fv.sample_trials({Q: pairs}, tiny_llama, demos=4, fit=8, held_out=6, hold_out=hold_out)
    said = starting(caveats(own.snapshot, None, INSIDE), SHOWN)
    answers = {pair.exB for trial in own.snapshot.of(Q, "fit") for pair in (trial.query, *trial.demos)}
    n_shown = sum(trial.query.exB in answers for trial in own.snapshot.of(Q, "eval"))
    assert (n_shown > 3) == told
    assert [line.partition(")")[0] for line in said] == (
        [f"{SHOWN} of their relation ({Q} {n_shown} of 6"] if told else []
    )
