"""Eval queries in other relations' fit prompts: all are found, and none that is not there."""

from conftest import DEFAULT_CSV
from hypothesis import given, settings
from hypothesis import strategies as st
from relation_makers import numbered, relation, seeds, snapshot_of, spellings

from fv.config import DataConfig, Split
from fv.data.leaks import eval_pairs_elsewhere
from fv.data.relations import Pair, normalise, read_configured
from fv.data.sampling import sample_snapshot
from fv.models.language_model import LanguageModel

overlapping = st.lists(st.builds(Pair, spellings, spellings), min_size=10, max_size=16, unique=True)


@settings(deadline=None, max_examples=30)
@given(of=st.lists(overlapping, min_size=2, max_size=3), seed=seeds, split=st.sampled_from(Split))
def test_a_query_is_found_in_the_relations_that_show_it_in_either_direction(
    tiny_llama: LanguageModel, of: list[list[Pair]], seed: int, split: Split
) -> None:
    relations = [
        relation([*pairs, *numbered(9, f"own {name}").pairs], name) for name, pairs in zip("abc", of, strict=False)
    ]
    snapshot = snapshot_of(tiny_llama, relations, seed, split=split, allow_drop=True)
    expected: dict[str, dict[str, list[str]]] = {q_id: {} for q_id in snapshot.qids}
    for trial in snapshot.trials:
        if split is Split.held_out and trial.split == "fit":
            continue
        ends = [normalise(trial.query.exA), normalise(trial.query.exB)]
        for q_id in snapshot.qids:
            fit = [e for t in snapshot.of(q_id, "fit") for e in (t.query, *t.demos)]
            shown = [[normalise(e.exA), normalise(e.exB)] for e in fit]
            if q_id != trial.q_id and (ends in shown or ends[::-1] in shown):
                expected[trial.q_id].setdefault(trial.trial_id, []).append(q_id)
    assert eval_pairs_elsewhere(snapshot) == expected
    among_a = {
        q_id: {trial: ["a"] for trial, others in trials.items() if "a" in others} for q_id, trials in expected.items()
    }
    assert eval_pairs_elsewhere(snapshot, among=["a"]) == among_a


def test_fifty_queries_of_the_default_relations_are_shown_elsewhere(tiny_llama: LanguageModel) -> None:
    data = DataConfig(relation_csv_path=str(DEFAULT_CSV))
    snapshot = sample_snapshot(read_configured(data), data, 42, tiny_llama)
    found = eval_pairs_elsewhere(snapshot)
    assert sum(map(len, found.values())) == 50 and sum(trial.split == "eval" for trial in snapshot.trials) == 496
    assert set(found) == set(snapshot.qids) and len(found) == 31
    assert all(others == ["city_country"] for others in found["country_capital"].values())
    assert not found["antonym"]
