"""Words that a report says of a vector: what it does, whether it is specific, and which baseline does better."""

import math
from typing import Any

import pytest
from summaries import made_summary
from tiny_runs import TinyRun

from fv.files import read_json
from fv.report.closing_notes import baselines_that_win, effects_in_words
from fv.report.headline import p_shown, specific_sentence, verb_of
from fv.report.summary import Summary
from fv.steps.pipeline import run_pipeline


def summary_of(
    minus: dict[str, tuple[float, float]], corrupted_fv: float, few_shot: float = 0.8, corrupted: float = 0.1
) -> Summary:
    """One relation's summary: effects minus controls as (mean, upper end), and three accuracies."""
    where = {"fv": "q", "eval_qid": "q", "subset": "all"}
    contrasts = [
        {**where, "condition": "fv", "minus": control, "n_draws": 1, "metrics": {"logprob": {"mean": m, "ci_high": h}}}
        for control, (m, h) in minus.items()
    ]
    held_out: list[dict[str, Any]] = [
        {**where, "fv": "", "condition": "few_shot", "metrics": {"top1": {"mean": few_shot}}},
        {**where, "fv": "", "condition": "few_shot_corrupted", "metrics": {"top1": {"mean": corrupted}}},
        {**where, "condition": "few_shot_corrupted_fv", "metrics": {"top1": {"mean": corrupted_fv}}},
    ]
    chosen = [{"fv": "q", "eval_qid": "q", "fv_kind": "qid", "fv_source": "q", "k": 5}]
    return made_summary(chosen=chosen, contrasts=contrasts, held_out=held_out)


def chosen_rows(*rows: tuple[str, str, str, str]) -> Summary:
    """Chosen vectors as (fv, fv_kind, fv_source, eval_qid), the few-shot prompt ahead of each."""
    chosen = [dict(zip(("fv", "fv_kind", "fv_source", "eval_qid", "k"), (*row, None), strict=True)) for row in rows]
    metrics = {"logprob": {"mean": -1.0, "ci_high": 1.0}}
    ahead = {"condition": "fv", "minus": "few_shot", "subset": "all", "n_draws": 1, "metrics": metrics}
    return made_summary(chosen=chosen, contrasts=[{**row, **ahead} for row in chosen])


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([("global", "global", "global", "a"), ("global", "global", "global", "b")], "a, b"),
        ([("file", "file", "file", "a")], "a"),
        ([("a@aie", "aie_qid", "a@aie", "a")], "a"),
        ([("a", "qid", "a", "a"), ("a@aie", "aie_qid", "a@aie", "a")], "a"),
        # Of the transfer matrix, the diagonal.
        ([("a", "qid", "a", "a"), ("a", "qid", "a", "b")], "a"),
        ([("a@k1", "qid", "a", "a"), ("a@k5", "qid", "a", "a")], "a@k1, a@k5"),
        ([("a", "qid", "a", "a"), ("global", "global", "global", "a")], "a, global → a"),
    ],
)
def test_whatever_vector_a_run_reports_is_set_beside_baselines(
    rows: list[tuple[str, str, str, str]], named: str
) -> None:
    (line,) = baselines_that_win(chosen_rows(*rows))
    assert line == f"The few-shot prompt gives a higher log p than the vector in {named}."


@pytest.mark.slow
def test_every_control_and_baseline_that_is_subtracted_from_a_vector_can_win(tiny_run: TinyRun) -> None:
    quick = {"stats.n_resamples": 100, "analysis.cost.n_texts": 0, "evaluation.conditions.random_vector.draws": 2}
    few = {"evaluation.conditions.random_heads.draws": 1, "evaluation.conditions.refits.enabled": False}
    step6 = run_pipeline(
        tiny_run(
            quick,
            few,
            {
                "evaluation.held_out": True,
                "data.n_eval_trials_per_q": 4,
                "injection.fv": "all_qids",
                "eval_scope.mode": "all_qids",
            },
        )
    )
    summary = read_json(step6 / "eval_summary.json")
    there = {row["minus"] for row in summary["contrasts"] if row["condition"] == "fv"}
    lines = [baselines_that_win(summary_of({minus: (-1.0, -0.5)}, 0.7)) for minus in sorted(there)]
    assert len(there) == 9 and all(len(line) == 1 for line in lines) and len({line[0] for line in lines}) == 9


def test_a_baseline_that_wins_is_named() -> None:
    assert baselines_that_win(summary_of({"layer_mean_replaced": (1.0, 2.0), "few_shot": (0.5, 0.9)}, 0.7)) == []
    (line,) = baselines_that_win(summary_of({"layer_mean_replaced": (-1.0, 0.3), "few_shot": (0.5, 0.9)}, 0.7))
    assert line == "Replacing the residual stream by its layer mean gives a higher log p than the vector in q."
    (line,) = baselines_that_win(summary_of({"few_shot": (-1.0, -0.5)}, 0.7))
    assert line == "The few-shot prompt gives a higher log p than the vector in q; beyond its interval in q."


REACHED = "In the corrupted prompt, the vector reaches few-shot accuracy in q; the prompt alone does not."


@pytest.mark.parametrize(
    ("corrupted", "with_vector", "few_shot", "told"),
    [
        (0.1, 0.8, 0.8, [REACHED]),
        (0.7, 0.9, 0.8, [REACHED]),
        # The wrong examples alone do as well.
        (0.8, 0.8, 0.8, []),
        (0.9, 0.9, 0.8, []),
        # The vector takes something away.
        (0.9, 0.8, 0.8, []),
        (0.1, 0.7, 0.8, []),
        # Nothing is reached where examples do not help either.
        (0.0, 0.0, 0.0, []),
    ],
)
def test_few_shot_accuracy_is_reached_only_beyond_what_the_corrupted_prompt_has_alone(
    corrupted: float, with_vector: float, few_shot: float, told: list[str]
) -> None:
    assert baselines_that_win(summary_of({}, with_vector, few_shot, corrupted)) == told


HEADLINE = "delta_logprob_ci_low", "delta_logprob_ci_high"


def with_headline(**ends: tuple[float | None, float | None]) -> Summary:
    """Relations' own vectors with the intervals of their Δ log p; of None, no row."""
    chosen = [{"fv": q, "eval_qid": q, "fv_kind": "qid", "fv_source": q, "k": 5} for q in ends]
    rows = [{"fv": q, "eval_qid": q, **dict(zip(HEADLINE, own, strict=True))} for q, own in ends.items()]
    return made_summary(chosen=chosen, headline=rows)


def test_vectors_that_do_not_raise_the_answer_are_named_by_what_they_do() -> None:
    assert effects_in_words(with_headline(a=(0.1, 0.5))) == []
    assert effects_in_words(with_headline(a=(0.1, 0.5), b=(-0.4, -0.1), c=(-0.1, 0.2), d=(None, None))) == [
        "The vector lowers the right answer's log p in b; it does not change measurably the right answer's log p in c, "
        "d."
    ]


@pytest.mark.parametrize(
    ("ends", "word"),
    [
        ((0.01, 2.0), "raises"),
        ((-2.0, -0.01), "lowers"),
        ((-0.01, 2.0), "does not change measurably"),
        ((0.0, 2.0), "does not change measurably"),
        ((-2.0, 0.0), "does not change measurably"),
        ((None, None), "does not change measurably"),
        ((math.nan, math.nan), "does not change measurably"),
    ],
)
def test_a_word_follows_its_interval(ends: tuple[float | None, float | None], word: str) -> None:
    assert verb_of(*ends) == word


def row_of(fv: str, p_holm: float | None, effect: float = 1.0, of_logits: float | None = 0.5) -> dict[str, Any]:
    lower_end = {"minus_corrupted_logit_difference_ci_low": of_logits}
    return {"fv": fv, "p_holm": p_holm, "minus_corrupted": effect, **lower_end}


DESCRIPTIVE = "(p adjusted over relations, Holm, level 0.05). All other numbers are descriptive."
DECLARED = "The one declared contrast, log p minus corrupted, calls the vector specific in"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([row_of("a", 0.01), row_of("b", 0.04)], f"{DECLARED} a, b {DESCRIPTIVE}"),
        ([row_of("a", 0.01), row_of("b", 0.06)], f"{DECLARED} a; not shown to be in b {DESCRIPTIVE}"),
        # Far below zero is no specific effect.
        ([row_of("a", 0.01), row_of("b", 0.01, -1.0)], f"{DECLARED} a; not shown to be in b {DESCRIPTIVE}"),
        ([row_of("a", 0.5), row_of("b", 1.0)], f"{DECLARED} none {DESCRIPTIVE}"),
        # Log p rises and the logit difference does not, or none could be measured: other answers may rise alike.
        (
            [row_of("a", 0.01), row_of("b", 0.01, of_logits=-0.1), row_of("c", 0.01, of_logits=None)],
            f"{DECLARED} a, b, c (p adjusted over relations, Holm, level 0.05). In b, c the logit difference minus "
            "corrupted is not specific: other answers rise alike. All other numbers are descriptive.",
        ),
        # Off the diagonal of a matrix nothing is tested.
        ([row_of("a", 0.01), row_of("c", None), row_of("d", math.nan)], f"{DECLARED} a {DESCRIPTIVE}"),
        ([row_of("a", None)], ""),
        ([], ""),
    ],
)
def test_a_vector_is_called_specific_by_the_declared_contrast_alone(rows: list[dict[str, Any]], told: str) -> None:
    assert specific_sentence(rows, 0.95) == told


def test_the_level_of_the_test_is_that_of_the_intervals() -> None:
    assert "specific in a " in specific_sentence([row_of("a", 0.07)], 0.9)
    assert "specific in none " in specific_sentence([row_of("a", 0.07)], 0.95)


@pytest.mark.parametrize(
    ("p", "text"), [(0.0004, "<.001"), (0.0042, ".004"), (0.032, ".03"), (0.5, ".50"), (1.0, "1.00"), (None, "–")]
)
def test_small_p_values_keep_a_digit(p: float | None, text: str) -> None:
    assert p_shown(p) == text
