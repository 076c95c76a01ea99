"""A relation that is too small is refused with the largest settings that would do."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.config import DataConfig, Split
from fv.data.encoder import Encoder
from fv.data.relation_sampler import QidTrials, RelationSampler
from fv.data.relations import Pair, Relation
from fv.errors import TrialError
from fv.models.language_model import LanguageModel

NAMED = {"eval trial": "n_eval_trials_per_q", "demonstration": "n_demos", "fit trial": "n_trials_per_q"}


def relation_of(pairs: list[Pair]) -> Relation:
    return Relation("q", tuple(pairs), 0, 0)


def numbered(n: int) -> Relation:
    """`n` unrelated pairs."""
    return relation_of([Pair(f"in {i}", f"out {i}") for i in range(n)])


def sample(lm: LanguageModel, of: Relation, seed: int = 0, **data: Any) -> QidTrials:
    return RelationSampler(of, DataConfig(**data), seed, Encoder(lm, special=False)).sample()


def named_in(error: TrialError) -> dict[str, int]:
    """The settings that a refusal names as working, with their maxima."""
    advice = str(error).splitlines()[-1].partition(" would work")[0]
    return {
        NAMED[noun]: int(count) for count, noun in re.findall(r"(\d+) (eval trial|demonstration|fit trial)", advice)
    }


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(
    n=st.integers(4, 24),
    kin=st.sampled_from([1, 2]),
    split=st.sampled_from(Split),
    seed=st.integers(0, 2**40),
    counts=st.tuples(st.integers(1, 16), st.integers(1, 12), st.integers(1, 10)),
)
def test_a_refusal_names_the_largest_settings_that_work_alone(
    tiny_llama: LanguageModel, n: int, kin: int, split: Split, seed: int, counts: tuple[int, int, int]
) -> None:
    pairs = relation_of([Pair(f"in {i // kin}", f"out {i}") for i in range(n // kin * kin)])
    asked: dict[str, Any] = {**dict(zip(NAMED.values(), counts, strict=True)), "split": split}
    held_out = list(NAMED.values())[split is Split.shared :]

    def refusal(**changed: int) -> TrialError | None:
        try:
            sample(tiny_llama, pairs, seed, **{**asked, **changed})
        except TrialError as error:
            return error
        return None

    if (error := refusal()) is None:
        return
    named = named_in(error)
    for key in held_out:
        # Every count below the one asked is tried, so that nothing that works goes unnamed.
        works = [count for count in range(1, asked[key]) if refusal(**{key: count}) is None]
        assert named.get(key) == (max(works) if works else None)
    together = {key: int(count) for key, count in re.findall(r"(n_\w+)=(\d+)", str(error).splitlines()[-1])}
    assert not (named and together)
    if together:
        assert together.keys() == {*held_out} and refusal(**together) is None
        assert all(1 <= count <= asked[key] for key, count in together.items())


def test_a_refusal_names_each_setting_with_its_maximum(tiny_llama: LanguageModel) -> None:
    asked: dict[str, Any] = {"n_trials_per_q": 12, "n_demos": 10, "n_eval_trials_per_q": 16}
    with pytest.raises(TrialError, match="At most 14 eval trials, or 9 demonstrations would work with the other two"):
        sample(tiny_llama, numbered(26), **{**asked, "n_trials_per_q": 9, "n_demos": 11})
    with pytest.raises(TrialError, match="At most 13 eval trials, or 9 fit trials would work with the other two"):
        sample(tiny_llama, numbered(25), **{**asked, "n_demos": 5})
    with pytest.raises(TrialError, match="At most 5 demonstrations would work with the other as it is"):
        sample(tiny_llama, numbered(6), split=Split.shared, n_trials_per_q=7, n_demos=6)
    with pytest.raises(TrialError, match="Ask for fewer trials and demonstrations, or say"):
        sample(tiny_llama, numbered(2), **asked)


def test_where_no_count_alone_is_enough_all_are_lowered_together(tiny_llama: LanguageModel) -> None:
    told = "Together these would work: n_trials_per_q=5 n_demos=4 n_eval_trials_per_q=7; or say allow_drop=true."
    with pytest.raises(TrialError, match=told):
        sample(tiny_llama, numbered(12), n_trials_per_q=12)
    # Fit trials are lowered only where they leave too few pairs to be held out.
    told = "Together these would work: n_trials_per_q=36 n_demos=3 n_eval_trials_per_q=6; or say allow_drop=true."
    with pytest.raises(TrialError, match=told):
        sample(tiny_llama, numbered(18), n_demos=18, n_eval_trials_per_q=36)


def test_a_refusal_names_no_setting_that_would_fail_for_another_reason(tiny_llama: LanguageModel) -> None:
    one_output = relation_of([Pair(f"in {i}", "same") for i in range(12)])
    with pytest.raises(TrialError, match="Ask for fewer trials and demonstrations, or say"):
        sample(tiny_llama, one_output, n_trials_per_q=20, n_demos=3, n_eval_trials_per_q=3)
