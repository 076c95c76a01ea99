"""Baselines of a relation: what they know is what the fit trials show, and none of what is asked."""

import math
from collections import Counter

import pytest
from hypothesis import given
from relation_makers import are_kin, light, noisy_pairs, numbered, relation, seeds, snapshot_of

from fv.config import Split
from fv.data.relations import Pair, normalise
from fv.evaluation.questions import RelationQuestions
from fv.models.language_model import LanguageModel


def most_frequent(pairs: list[Pair]) -> str:
    return Counter(normalise(pair.exB) for pair in pairs).most_common(1)[0][0]


@light
@given(pairs=noisy_pairs, seed=seeds)
def test_held_out_queries_take_nothing_from_the_majority(
    tiny_llama: LanguageModel, pairs: list[Pair], seed: int
) -> None:
    questions = RelationQuestions(tiny_llama, snapshot_of(tiny_llama, [relation(pairs)], seed, allow_drop=True), "q")
    asked = [trial for trial in questions.trials if trial.split == "eval"]
    fit = [pair for t in questions.trials if t.split == "fit" for pair in (t.query, *t.demos)]
    right = [normalise(t.query.exB) == most_frequent(list(dict.fromkeys(fit))) for t in asked]
    assert questions.majority_accuracy(asked) == pytest.approx(sum(right) / len(right))


def test_pairs_that_are_asked_do_not_tell_their_answers_under_shared(tiny_llama: LanguageModel) -> None:
    # Half of the outputs are "common". Asked for those alone, only what is not asked may be counted.
    pairs = [*(Pair(f"in {i}", "common") for i in range(6)), *(Pair(f"one {i}", f"rare {i // 2}") for i in range(6))]
    snapshot = snapshot_of(tiny_llama, [relation(pairs)], n_trials_per_q=12, n_demos=4, split=Split.shared)
    questions = RelationQuestions(tiny_llama, snapshot, "q")
    common = [trial for trial in questions.trials if trial.query.exB == "common"]
    assert len(common) == 6
    assert questions.majority_accuracy(common) == 0
    assert questions.majority_accuracy(common[:2]) == 1  # four are left to count


@light
@given(pairs=noisy_pairs, seed=seeds)
def test_no_kin_of_an_asked_pair_is_counted(tiny_llama: LanguageModel, pairs: list[Pair], seed: int) -> None:
    snapshot = snapshot_of(tiny_llama, [relation(pairs)], seed, n_trials_per_q=8, split=Split.shared)
    questions = RelationQuestions(tiny_llama, snapshot, "q")
    asked = questions.trials[:3]
    left = dict.fromkeys(pair for t in questions.trials for pair in (t.query, *t.demos))
    known = [t.query for t in asked]
    while more := [pair for pair in left if any(are_kin(pair, other) for other in known)]:  # kinship is passed on
        known += more
        left = {pair: None for pair in left if pair not in more}
    right = [normalise(t.query.exB) == most_frequent(list(left)) for t in asked]
    assert questions.majority_accuracy(asked) == pytest.approx(sum(right) / len(right))


def test_without_a_pair_that_is_not_asked_there_is_no_majority(tiny_llama: LanguageModel) -> None:
    snapshot = snapshot_of(tiny_llama, [numbered(5)], n_trials_per_q=5, n_demos=2, split=Split.shared)
    questions = RelationQuestions(tiny_llama, snapshot, "q")
    assert math.isnan(questions.majority_accuracy(questions.trials))
    assert questions.majority_accuracy(questions.trials[:4]) == 0
