"""Choosing on dev trials: nothing leaks between the parts, and test trials choose nothing."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.data.relations import Pair, normalise
from fv.data.snapshot import Snapshot
from fv.data.snapshot_meta import Meta, QidCounts, SourceFile
from fv.data.trial import Trial
from fv.errors import TrialError
from fv.evaluation.selection import DEV, TEST, choose_cells, is_chosen, parts_of

light = settings(max_examples=40, deadline=None)
fewer = settings(max_examples=12, deadline=None)
# Few words in several spellings, so that inputs repeat and pairs are reversed all the time.
words = st.sampled_from(["a", "A", "ａ", "b", "B ", "c", "d", "e", "f", "g", "h"])
pairs = st.tuples(words, words)
Shown = tuple[str, str]


def trial(
    q_id: str, number: int, query: Shown, demos: Sequence[Shown] = (), split: Literal["fit", "eval"] = "eval"
) -> Trial:
    return Trial(
        trial_id=f"{q_id}:{split}:{number:04d}",
        q_id=q_id,
        split=split,
        demos=[Pair(*demo) for demo in demos],
        corrupted_demos=[Pair(given, "wrong") for given, _ in demos],
        corruption="relation",
        target_in_corrupted=False,
        query=Pair(*query),
        clean_prompt_str="",
        corrupted_prompt_str="",
        zero_shot_prompt_str="",
        target_str=f" {query[1]}",
        target_first_token_id=1,
        target_token_ids=[1],
    )


def snapshot_of(*trials: Trial) -> Snapshot:
    source = SourceFile(path="some.csv", sha256="0" * 64)
    counts = {q: QidCounts(fit_asked=0, fit=0, eval_asked=0, eval=0) for q in {t.q_id for t in trials}}
    meta = Meta(
        schema_version=1,
        seed=0,
        n_demos=1,
        split_policy="held_out",
        hold_out="queries",
        corruption="derange",
        add_special_tokens=False,
        template={},
        tokenizer={},
        relation_csv=source,
        columns={},
        counts=counts,
        dropped_qids=[],
        rejections={},
        duplicates={},
        one_to_many={},
        first_token_collisions={},
        replayed_from=None,
        clusters={},
    )
    return Snapshot(meta=meta, trials=list(trials))


def parts(queries: Sequence[Shown], fraction: float = 0.3, seed: int = 0, others: Sequence[Trial] = ()) -> list[str]:
    """The part of each query of relation q, in order."""
    trials = [trial("q", i, query) for i, query in enumerate(queries)]
    found = parts_of(snapshot_of(*trials, *others), "q", trials, fraction, seed)
    assert list(found) == [t.trial_id for t in trials]
    return list(found.values())


def unrelated(n: int) -> list[Shown]:
    return [(f"in {i}", f"out {i}") for i in range(n)]


# Parts


@light
@given(st.integers(2, 30), st.floats(0.01, 0.99), st.integers(0, 2**40))
def test_unrelated_trials_are_divided_in_the_ratio_asked_for_and_neither_part_is_empty(
    n: int, fraction: float, seed: int
) -> None:
    found = parts(unrelated(n), fraction, seed)
    assert set(found) == {DEV, TEST}
    assert found.count(DEV) == min(max(1, round(fraction * n)), n - 1)


def clusters(queries: Sequence[Shown], shown: Sequence[Shown]) -> list[set[int]]:
    """Kin queries, grown pair by pair until nothing changes."""
    plain = [(normalise(a), normalise(b)) for a, b in [*queries, *shown]]
    groups = [{i} for i in range(len(plain))]
    for i, (a, b) in enumerate(plain):
        for j, (c, d) in enumerate(plain[:i]):
            if a == c or (a, b) == (d, c):
                one, other = (next(g for g in groups if at in g) for at in (i, j))
                if one is not other:
                    groups.remove(other)
                    one |= other
    return [own for group in groups if (own := {i for i in group if i < len(queries)})]


@light
@given(st.lists(pairs, min_size=1, max_size=8), st.lists(pairs, max_size=4), st.integers(0, 99))
def test_kin_stay_together_and_both_parts_have_trials_or_the_relation_is_refused(
    queries: list[Shown], demos: list[Shown], seed: int
) -> None:
    groups = clusters(queries, demos)
    shown = [trial("q", 0, ("x", "y"), demos, "fit")] if demos else []
    if len(groups) < 2:
        with pytest.raises(TrialError):
            parts(queries, 0.3, seed, shown)
        return
    found = parts(queries, 0.3, seed, shown)
    assert set(found) == {DEV, TEST}
    assert all(len({found[i] for i in group}) == 1 for group in groups)
    # The dev part is at most as large as asked for, unless the smallest group already is larger.
    wanted = min(max(1, round(0.3 * len(queries))), len(queries) - 1)
    assert found.count(DEV) <= max(wanted, min(map(len, groups)))


@pytest.mark.parametrize("kin", [("B", "A"), ("a", "other"), (" A ", "other"), ("ａ", "other")])
def test_a_reversed_pair_and_a_respelled_input_stay_with_their_query(kin: Shown) -> None:
    for seed in range(20):
        found = parts([("a", "b"), kin, ("c", "d"), ("e", "f")], 0.5, seed)
        assert found[0] == found[1]
    assert {parts([("a", "b"), kin, ("c", "d"), ("e", "f")], 0.5, seed)[0] for seed in range(20)} == {DEV, TEST}


def test_kinship_is_passed_on_through_a_pair_that_only_a_demonstration_shows() -> None:
    # a→b is the reverse of b→a, which has the input of b→c.
    queries = [("a", "b"), ("b", "c"), ("d", "e"), ("f", "g")]
    shown = [trial("q", 0, ("x", "y"), [("b", "a")], "fit")]
    assert all(len(set(parts(queries, 0.5, seed, shown)[:2])) == 1 for seed in range(20))
    assert any(len(set(parts(queries, 0.5, seed)[:2])) == 2 for seed in range(20))


def test_the_division_depends_on_the_seed_alone() -> None:
    found = [tuple(parts(unrelated(12), seed=seed)) for seed in (0, 0, 1, 2)]
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_another_relation_changes_nothing() -> None:
    queries = [("a", "b"), ("b", "c"), ("d", "e"), ("f", "g")]
    other = trial("other", 0, ("b", "a"), [("a", "c")])
    assert all(parts(queries, 0.5, seed, [other]) == parts(queries, 0.5, seed) for seed in range(20))


def test_two_relations_are_not_divided_alike() -> None:
    one, other = ([trial(q, i, query) for i, query in enumerate(unrelated(16))] for q in ("q", "r"))
    found = [list(parts_of(snapshot_of(*one, *other), t[0].q_id, t, 0.5, 0).values()) for t in (one, other)]
    assert found[0] != found[1]


@pytest.mark.parametrize("queries", [[("a", "b")], [("a", "b"), ("B", "A"), ("A", "c")]])
def test_a_relation_with_one_group_is_refused_with_counts_and_what_would_do(queries: list[Shown]) -> None:
    with pytest.raises(TrialError) as error:
        parts(queries, 0.25)
    told = ("q: ", f"{len(queries)} eval trials make 1 group", "dev_fraction=0.25 needs 2", "one alpha", "one k")
    for part in told:
        assert part in str(error.value)


# Cells

Row = tuple[str, str, str, int, float, float]


def table(*rows: Row, k: int | None = 5) -> pd.DataFrame:
    """Rows of (fv, trial, part, layer, alpha, Δ log p) of relation q; a vector's name is source@k, or its source."""
    frame = pd.DataFrame(rows, columns=["fv", "trial_id", "part", "layer", "alpha", "delta_logprob"])
    named = frame["fv"].str.split("@", expand=True).reindex(columns=[0, 1])
    ks = pd.to_numeric(named[1]).astype("Int64").fillna(pd.NA if k is None else k)
    return frame.assign(eval_qid="q", fv_source=named[0], k=ks)


def grid(fv: str, dev: dict[tuple[int, float], list[float]], test: float = 0.0) -> list[Row]:
    """The dev trials' values of each cell, and two test trials."""
    values = {DEV: dev, TEST: {cell: [test, test] for cell in dev}}
    return [
        (fv, f"{part}{i}", part, layer, alpha, value)
        for part, cells in values.items()
        for (layer, alpha), found in cells.items()
        for i, value in enumerate(found)
    ]


def test_the_cell_with_the_highest_dev_mean_is_chosen_by_hand() -> None:
    # Means 2, 2.5 and -1; the last has the highest single value.
    rows = table(*grid("f", {(0, 1.0): [1, 3, 2], (3, 0.5): [2, 3, 2.5], (7, 2.0): [9, -6, -6]}))
    (found,) = choose_cells(rows).to_dict("records")
    whose = {"fv": "f", "eval_qid": "q", "fv_source": "f", "k": 5, "best_k": True}
    cell = {"layer": 3, "alpha": 0.5, "n_dev": 3, "n_test": 2, "dev_mean_delta_logprob": 2.5}
    assert found == whose | cell


@pytest.mark.parametrize(
    ("tied", "expected"),
    [([(4, 0.5), (2, 2.0), (2, 1.0)], (2, 1.0)), ([(4, 1.0), (11, 0.5)], (4, 1.0)), ([(3, 2.0), (3, -1.0)], (3, -1.0))],
)
def test_ties_go_to_the_lower_layer_then_the_lower_alpha(
    tied: list[tuple[int, float]], expected: tuple[int, float]
) -> None:
    rows = table(*grid("f", {(0, 0.1): [0.0], **{cell: [1.0] for cell in tied}}))
    assert tuple(choose_cells(rows)[["layer", "alpha"]].iloc[0]) == expected


CELLS = [(layer, alpha) for layer in (0, 2) for alpha in (0.5, 1.0)]
numbers = st.integers(-8, 8).map(float)
dev_values = st.fixed_dictionaries({cell: st.lists(numbers, min_size=2, max_size=2) for cell in CELLS})


@fewer
@given(dev_values, dev_values, st.lists(numbers, min_size=16, max_size=16))
def test_test_trials_choose_nothing(one: dict[Any, Any], other: dict[Any, Any], changes: list[float]) -> None:
    rows = table(*grid("a@5", one), *grid("a@9", other))
    changed = rows.copy()
    changed.loc[changed["part"] == TEST, "delta_logprob"] += changes
    pd.testing.assert_frame_equal(choose_cells(changed), choose_cells(rows))


@pytest.mark.slow
def test_the_order_of_rows_chooses_nothing_and_breaks_no_tie() -> None:
    # Summed in another order, one such mean in ten differs in its last bit.
    for seed in range(40):
        rng = np.random.default_rng(seed)
        values = rng.normal(-3, 4, 7).tolist()
        rows = table(*grid("f", {(3, 1.0): values, (1, 1.0): values}))
        found = choose_cells(rows.iloc[rng.permutation(len(rows))])
        assert found["layer"].tolist() == [1]
        pd.testing.assert_frame_equal(found, choose_cells(rows), check_exact=True)


def test_the_best_k_of_a_source_has_its_highest_dev_mean_and_ties_go_to_the_smaller() -> None:
    rows = table(
        *grid("a@5", {(0, 1.0): [1.0], (1, 1.0): [2.0]}),
        *grid("a@10", {(0, 1.0): [3.0], (1, 1.0): [0.0]}),
        *grid("a@20", {(0, 1.0): [3.0], (1, 1.0): [1.0]}),
        *grid("b@10", {(0, 1.0): [-1.0]}),
        *grid("b@5", {(0, 1.0): [-1.0]}),
    )
    chosen = choose_cells(rows).set_index("fv")
    assert chosen["best_k"].to_dict() == {"a@5": False, "a@10": True, "a@20": False, "b@10": False, "b@5": True}
    assert chosen.loc["a@5", "layer"] == 1


def test_each_relation_chooses_its_own_cell_and_k() -> None:
    rows = table(*grid("a@5", {(0, 1.0): [1.0], (1, 1.0): [2.0]}), *grid("a@9", {(0, 1.0): [0.0], (1, 1.0): [1.0]}))
    mirrored = rows.assign(eval_qid="r", delta_logprob=-rows["delta_logprob"])
    found = choose_cells(pd.concat([rows, mirrored])).set_index(["fv", "eval_qid"])
    assert found["layer"].to_dict() == {("a@5", "q"): 1, ("a@5", "r"): 0, ("a@9", "q"): 1, ("a@9", "r"): 0}
    assert found["best_k"].to_dict() == {
        ("a@5", "q"): True,
        ("a@5", "r"): False,
        ("a@9", "q"): False,
        ("a@9", "r"): True,
    }


def test_without_dev_trials_only_pairs_with_a_single_cell_are_in_the_table() -> None:
    rows = table(*grid("one", {(4, 0.5): [1.0]}), *grid("two", {(0, 1.0): [1.0], (1, 1.0): [2.0]}), k=None)
    found = choose_cells(rows[rows["part"] == TEST])
    assert found[["fv", "layer", "alpha", "n_dev", "n_test"]].to_numpy().tolist() == [["one", 4, 0.5, 0, 2]]
    assert found["dev_mean_delta_logprob"].isna().all() and found["best_k"].all() and found["k"].isna().all()


def test_the_rows_of_chosen_cells_are_told_from_all_others() -> None:
    one = table(*grid("f", {(0, 1.0): [2.0], (1, 1.0): [1.0]}), *grid("g", {(0, 1.0): [1.0], (1, 1.0): [2.0]}))
    found = is_chosen(one, choose_cells(one))
    assert isinstance(found, np.ndarray) and found.dtype == bool
    assert {tuple(row) for row in one.loc[found, ["fv", "layer"]].to_numpy()} == {("f", 0), ("g", 1)}
    assert found.sum() == 6
