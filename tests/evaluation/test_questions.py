"""Baselines of a relation: of what the fit trials show, of one answer to all, of the query itself."""

import math
from collections import Counter

import pytest
from conftest import DEFAULT_CSV
from hypothesis import given
from hypothesis import strategies as st
from relation_makers import are_kin, light, noisy_pairs, numbered, relation, seeds, snapshot_of

from fv.config import Split
from fv.data.reading import read_relations
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


# One answer to all, and the query itself


@light
@given(outputs=st.lists(st.sampled_from(["New York", "New Delhi", "Rome", "rome", "Oslo"]), min_size=12, max_size=30))
def test_no_constant_answer_is_right_more_often_than_the_best_one(
    tiny_llama: LanguageModel, outputs: list[str]
) -> None:
    pairs = [Pair(f"in {i}", output) for i, output in enumerate([*outputs, "Rome", "Oslo"])]
    snapshot = snapshot_of(tiny_llama, [relation(pairs)], n_trials_per_q=len(pairs), n_demos=1, split=Split.shared)
    questions = RelationQuestions(tiny_llama, snapshot, "q")
    for trials in (questions.trials, questions.trials[:5]):
        answers = [trial.query.exB for trial in trials]
        firsts = [tiny_llama.tokenizer.tokenize(f" {answer}")[0] for answer in answers]
        accuracies = {
            "top1": [sum(first == guess for first in firsts) / len(trials) for guess in firsts],
            "exact_match": [sum(own.lower() == guess.lower() for own in answers) / len(trials) for guess in answers],
        }
        assert questions.constant_accuracy(trials) == {name: max(found) for name, found in accuracies.items()}


def test_the_best_constant_answer_is_counted_by_first_token_and_by_the_whole(tiny_lm: LanguageModel) -> None:
    outputs = ["New York", "New Delhi", "New Delhi", "Rome"]
    snapshot = snapshot_of(
        tiny_lm,
        [relation([Pair(f"in {i}", output) for i, output in enumerate(outputs)])],
        n_trials_per_q=4,
        n_demos=1,
        split=Split.shared,
    )
    questions = RelationQuestions(tiny_lm, snapshot, "q")
    assert questions.constant_accuracy(questions.trials) == {"top1": 0.75, "exact_match": 0.5}


def test_a_repeated_query_is_right_where_its_tokens_are_the_answers(tiny_lm: LanguageModel) -> None:
    pairs = [
        Pair("New York", "New Delhi"),  # the same first token
        Pair("Paris", "Paris"),
        Pair("paris", "Paris"),  # the same only in normal form
        Pair("hot", "cold"),
    ]
    snapshot = snapshot_of(tiny_lm, [relation(pairs)], n_trials_per_q=4, n_demos=1, split=Split.shared)
    questions = RelationQuestions(tiny_lm, snapshot, "q")
    for trial in questions.trials:
        prompt = tiny_lm.encode(trial.zero_shot_prompt_str, False)
        repeated = tiny_lm.encode(f"{trial.zero_shot_prompt_str} {trial.query.exA}", False)
        found = questions.repeat_accuracy([trial])
        assert found["top1"] == (repeated[len(prompt)] == trial.target_token_ids[0])
        assert found["exact_match"] == (trial.query == Pair("Paris", "Paris"))
    assert questions.repeat_accuracy(questions.trials) == {"top1": 0.5, "exact_match": 0.25}


@pytest.mark.parametrize("q_id", ["choose_first_of_3", "adj_noun_ness", "capitalize"])
def test_repeating_the_query_scores_what_the_card_calls_copying(tiny_llama: LanguageModel, q_id: str) -> None:
    own = read_relations(names=[q_id])[q_id]
    snapshot = snapshot_of(tiny_llama, [own], n_trials_per_q=len(own.pairs), split=Split.shared)
    questions = RelationQuestions(tiny_llama, snapshot, q_id)
    card = (DEFAULT_CSV.parent / "README.md").read_text(encoding="utf-8")
    row = next(line for line in card.splitlines() if line.startswith(f"| {q_id} |"))
    copied = int(row.split("|")[-3].split("/")[1])  # SmolLM2's, in percent
    assert round(100 * questions.repeat_accuracy(questions.trials)["top1"]) == copied


def test_without_trials_there_is_no_accuracy(tiny_llama: LanguageModel) -> None:
    questions = RelationQuestions(tiny_llama, snapshot_of(tiny_llama, [numbered(12)]), "q")
    for found in (questions.constant_accuracy([]), questions.repeat_accuracy([])):
        assert found.keys() == {"top1", "exact_match"} and all(map(math.isnan, found.values()))
