"""CIE and AIE: numbers worked out by hand, files that keep every bit, and a head that is known to matter."""

import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.errors import ArtifactError
from fv.files import write_csv, write_npz
from fv.heads.indirect_effect import CIE_COLUMNS, TrialEffects, aie_table, cie_table, trial_effects
from fv.heads.ranking import top_heads
from fv.interventions.engine import Head
from fv.interventions.naive import NaiveEngine
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.progress import ignore_progress
from fv.runs.effect_files import read_trial_effects, write_trial_effects
from fv.runs.table_files import read_table

nan = math.nan


def effects_of(deltas: list[list[list[float]]]) -> TrialEffects:
    """Effects from nested lists [trial][layer][head]; the delta of p is a tenth of the delta of log p."""
    logprob = np.array(deltas)
    return TrialEffects.read(logprob, logprob / 10, None)


TWO_TRIALS = effects_of([[[1.0, 2.0], [nan, -4.0]], [[3.0, 2.5], [nan, -8.0]]])


def test_cie_is_the_mean_over_trials_by_layer_and_head() -> None:
    table = cie_table("q", TWO_TRIALS)
    assert table[["layer", "head", "mean_delta_logprob"]].values.tolist() == [[0, 0, 2], [0, 1, 2.25], [1, 1, -6]]
    assert table["mean_delta_p"].tolist() == pytest.approx([0.2, 0.225, -0.6])
    assert set(table["q_id"]) == {"q"} and set(table["n_trials"]) == {2}
    assert list(table.columns) == ["q_id", "layer", "head", "n_trials", "mean_delta_logprob", "mean_delta_p"]


@pytest.mark.parametrize("bad", [nan, math.inf])
def test_an_effect_that_is_not_finite_is_no_head_that_was_not_swept(bad: float, tmp_path: Path) -> None:
    some = np.ones((3, 2, 2))
    some[1, 0, 1] = bad
    queries = np.arange(3)
    for make in (TrialEffects, TrialEffects.read):
        with pytest.raises(ValueError, match="not finite"):
            make(some, np.ones_like(some), queries)
        with pytest.raises(ValueError, match="not finite"):
            make(np.ones_like(some), some, queries)
    write_npz(tmp_path / "t.npz", q_id=np.array(["q"] * 3), delta_logprob=some, delta_p=some, query=queries)
    with pytest.raises(ArtifactError, match=r"t\.npz is damaged: .*not finite"):
        read_trial_effects(tmp_path / "t.npz")


def test_a_head_that_was_not_swept_has_no_row() -> None:
    table = cie_table("q", TWO_TRIALS)
    assert [1, 0] not in table[["layer", "head"]].values.tolist()


def test_aie_is_the_mean_over_relations_whatever_their_number_of_trials() -> None:
    trials = {"many": [[[1.0, 6.0]]] * 5, "few": [[[4.0, -2.0]]], "two": [[[9.0, 5.0]], [[11.0, 5.0]]]}
    table = aie_table(pd.concat([cie_table(q_id, effects_of(deltas)) for q_id, deltas in trials.items()]))
    assert table[["layer", "head", "n_qids", "mean_delta_logprob"]].values.tolist() == [[0, 0, 3, 5.0], [0, 1, 3, 3.0]]
    assert table["mean_delta_p"].tolist() == pytest.approx([0.5, 0.3])
    assert list(table.columns) == ["layer", "head", "n_qids", "mean_delta_logprob", "mean_delta_p"]


def test_aie_over_a_subset_uses_the_subset_only() -> None:
    cie = pd.concat([cie_table(q, effects_of([[[value]]])) for q, value in [("a", 1.0), ("b", 5.0), ("c", 100.0)]])
    assert aie_table(cie, ["a", "b"])["mean_delta_logprob"].tolist() == [3.0]
    assert aie_table(cie, ["a", "b"])["n_qids"].tolist() == [2]


def test_joined_effects_keep_their_trials() -> None:
    joined = TrialEffects.cat([TWO_TRIALS, effects_of([[[5.0, 0.0], [nan, 3.0]]])])
    assert joined.n_trials == 3
    assert cie_table("q", joined)["mean_delta_logprob"].tolist() == pytest.approx([3.0, 1.5, -3.0])


# Effects of a model


def test_effects_are_differences_to_the_corrupted_prompt(tiny_llama: LanguageModel) -> None:
    prompts = [Prompt((5, 900, 31, 8), (77,)), Prompt((12, 4), (3000,))]
    mean, heads = torch.ones(3, 4, 12), [Head(2, 1), Head(0, 3)]
    naive = NaiveEngine(tiny_llama)
    effects, before = trial_effects(naive, prompts, mean, heads, ignore_progress)
    own = naive.last_token(prompts).scores
    assert torch.equal(before.scores.logprob, own.logprob)
    for head in heads:
        after = naive.patch_heads(prompts, mean, [head]).patched[:, 0]
        np.testing.assert_array_equal(effects.delta_logprob[:, head.layer, head.head], after - own.logprob)
        np.testing.assert_array_equal(effects.delta_p[:, head.layer, head.head], after.exp() - own.p)
    assert np.isnan(effects.delta_logprob).sum() == np.isnan(effects.delta_p).sum() == 2 * (12 - 2)


@pytest.mark.parametrize("mode", ["naive", "shared_prefix"])
@pytest.mark.parametrize("planted", [Head(0, 2), Head(2, 0)])
def test_the_head_that_carries_the_answer_is_ranked_first(tiny_lm: LanguageModel, mode: str, planted: Head) -> None:
    lm, answer = replace(tiny_lm, model=deepcopy(tiny_lm.model)), 4242
    towards = lm.unembedding.weight[answer] - lm.unembedding.weight.mean(0)
    read = torch.zeros(lm.head_dim)
    read[3] = 1.0
    with torch.no_grad():  # the planted head writes the answer's direction when its output has a third coordinate
        lm.out_weight(planted.layer)[:, lm.head_slice(planted.head)] = torch.outer(towards / towards.norm(), read)
    engine = NaiveEngine(lm) if mode == "naive" else SharedPrefixEngine(lm, 64)
    rng = torch.Generator().manual_seed(0)
    cie = []
    for q_id, n_trials in (("one", 3), ("two", 5)):
        prompts = [
            Prompt(tuple(torch.randint(0, 40000, (7,), generator=rng).tolist()), (answer,)) for _ in range(n_trials)
        ]
        mean = torch.randn(lm.n_layers, lm.n_heads, lm.head_dim, generator=rng)
        mean[planted] = 40 * read
        heads = [Head(layer, head) for layer in range(lm.n_layers) for head in range(lm.n_heads)]
        effects, _ = trial_effects(engine, prompts, mean, heads, ignore_progress)
        cie.append(cie_table(q_id, effects))
    for scores in (*cie, aie_table(pd.concat(cie))):
        assert top_heads(scores, "mean_delta_logprob", 1) == [planted]
        assert top_heads(scores, "mean_delta_p", 1) == [planted]


# Files

finite = st.floats(-50, 50)
names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    q_ids=st.lists(names | st.sampled_from(["NA", "null", "007", "1e5", "a,b", 'say "x"', "nan"]), min_size=1),
    scores=st.lists(st.tuples(finite, finite), min_size=1, max_size=5),
)
def test_a_cie_table_comes_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, q_ids: list[str], scores: list[tuple[float, float]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "cie_round_trip.csv"
    rows = [(q, 0, head, 3, *score) for q in q_ids for head, score in enumerate(scores)]
    table = pd.DataFrame(rows, columns=CIE_COLUMNS)
    write_csv(path, table)
    pd.testing.assert_frame_equal(read_table(path), table, check_exact=True)


def test_a_missing_cie_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cie_scores\.csv is missing"):
        read_table(tmp_path / "cie_scores.csv")


@pytest.mark.parametrize("content", ["", "q_id,layer,head\n1,2\n1,2,3,4,5,6\n"])
def test_a_file_that_is_no_cie_table_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "cie_scores.csv").write_text(content)
    with pytest.raises(ArtifactError, match=r"cie_scores\.csv"):
        read_table(tmp_path / "cie_scores.csv")


def test_trial_effects_are_stored_as_the_contract_says(tmp_path: Path) -> None:
    path = tmp_path / "cie_trials.npz"
    write_trial_effects(path, ["antonym/1", "국가/2"], ["antonym", "국가"], TWO_TRIALS)
    with np.load(path, allow_pickle=False) as stored:
        assert sorted(stored) == ["delta_logprob", "delta_p", "heads", "layers", "q_id", "query", "trial_id"]
        assert len(set(stored["query"].tolist())) == 2
        assert stored["trial_id"].tolist() == ["antonym/1", "국가/2"]
        assert stored["q_id"].tolist() == ["antonym", "국가"]
        np.testing.assert_array_equal(stored["delta_logprob"], TWO_TRIALS.delta_logprob)
        np.testing.assert_array_equal(stored["delta_p"], TWO_TRIALS.delta_p)


def test_trial_effects_name_the_layers_and_heads_that_were_swept(tmp_path: Path) -> None:
    deltas = np.full((2, 5, 4), nan)
    deltas[:, [1, 4], 2] = 0.5
    write_trial_effects(tmp_path / "t.npz", ["a", "b"], ["q", "q"], TrialEffects.read(deltas, deltas, None))
    with np.load(tmp_path / "t.npz", allow_pickle=False) as stored:
        assert stored["layers"].tolist() == [1, 4]
        assert stored["heads"].tolist() == [2]
