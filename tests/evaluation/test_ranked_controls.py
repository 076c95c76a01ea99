"""The vectors of other relations, as controls of a notebook's vector, are ranked as it was."""

import random
import string

import pytest

import fv
from fv.models.language_model import LanguageModel

LETTERS = string.ascii_lowercase


@pytest.mark.parametrize("key", ["mean_delta_logprob", "mean_delta_p"])
def test_other_relations_vectors_are_of_heads_ranked_by_the_same_column(tiny_llama: LanguageModel, key: str) -> None:
    words = random.Random(11).sample(LETTERS, len(LETTERS))
    relations = {"one": list(zip(LETTERS, words, strict=True)), "two": list(zip(words, LETTERS, strict=True))}
    trials = fv.sample_trials(relations, tiny_llama, demos=2, fit=4, held_out=6, seed=11)
    effects = fv.indirect_effects(tiny_llama, trials, compute=fv.Compute(progress=False))
    assert len({frozenset(effects["two"].top(5, column)) for column in ("mean_delta_logprob", "mean_delta_p")}) == 2
    one, two = (fv.function_vector(tiny_llama, effects[q_id], k=5, key=key) for q_id in relations)
    result = fv.evaluate(
        tiny_llama, one, trials["one"], layers=1, controls=["other_relation"], effects=effects, key=key, n_unrelated=0
    )
    other = result.trials[result.trials["condition"] == "other_relation"]
    assert set(other["of"]) == {"two"}
    assert other["norm"].to_numpy() == pytest.approx(two.norm, rel=1e-6)
