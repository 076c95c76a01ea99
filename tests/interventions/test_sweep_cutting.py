"""How an engine cuts its work into batches, chunks and passes moves rounding at most, and where promised no bit."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_checks import (
    MAX_ROWS,
    all_cells,
    all_heads,
    assert_bit_equal,
    assert_close,
    assert_patches_bit_equal,
    assert_patches_close,
    few,
    for_each,
    lengths_of_prompts,
    prompts_of,
    seeds,
    values_of,
    vectors_of,
)

from fv.interventions.engine import Cell, Head, LastToken, PatchScores
from fv.interventions.engines import make_engine
from fv.interventions.naive import NaiveEngine
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.models.language_model import LanguageModel

# How the work is cut up changes nothing


@pytest.mark.parametrize("max_rows", [2, 3, 7, 16, 33])
def test_max_rows_changes_rounding_only(tiny_lm: LanguageModel, max_rows: int) -> None:
    prompts = prompts_of(tiny_lm, [4, 1, 11, 7, 7])
    values, vectors = values_of(tiny_lm), vectors_of(tiny_lm, 5)
    small, huge = SharedPrefixEngine(tiny_lm, max_rows), SharedPrefixEngine(tiny_lm, 10**9)
    assert_patches_close(
        small.patch_heads(prompts, values, all_heads(tiny_lm)),
        huge.patch_heads(prompts, values, all_heads(tiny_lm)),
    )
    assert_close(
        small.inject(prompts, for_each(prompts, vectors), all_cells(tiny_lm))[1],
        huge.inject(prompts, for_each(prompts, vectors), all_cells(tiny_lm))[1],
    )


@few
@given(lengths=st.lists(st.integers(1, 14), min_size=2, max_size=5), seed=seeds, data=st.data())
def test_other_prompts_in_the_batch_do_not_matter(
    tiny_lm: LanguageModel, lengths: list[int], seed: int, data: st.DataObject
) -> None:
    prompts, values, vectors = prompts_of(tiny_lm, lengths, seed), values_of(tiny_lm, seed), vectors_of(tiny_lm)
    i = data.draw(st.integers(0, len(prompts) - 1))
    engine, heads, cells = SharedPrefixEngine(tiny_lm, 4096), all_heads(tiny_lm), all_cells(tiny_lm)
    together, alone = engine.patch_heads(prompts, values, heads), engine.patch_heads([prompts[i]], values, heads)
    parts: list[Any] = [part[i : i + 1] for part in (*together.unedited, *together[1:])]
    n = len(together.unedited)
    own = PatchScores(LastToken(*parts[:n]), *parts[n:])
    assert_patches_close(own, alone)
    assert_close(
        engine.inject(prompts, for_each(prompts, vectors), cells)[1][i : i + 1],
        engine.inject([prompts[i]], for_each([prompts[i]], vectors), cells)[1],
    )
    assert_close(engine.last_token(prompts).scores[i : i + 1], engine.last_token([prompts[i]]).scores)


@few
@given(data=st.data())
def test_some_heads_alone_equal_the_same_heads_of_a_full_sweep(tiny_lm: LanguageModel, data: st.DataObject) -> None:
    heads = all_heads(tiny_lm)
    some = data.draw(st.lists(st.sampled_from(heads), unique=True, min_size=1))
    prompts, values, engine = prompts_of(tiny_lm, [3, 8]), values_of(tiny_lm), SharedPrefixEngine(tiny_lm, 4096)
    full = engine.patch_heads(prompts, values, heads)
    columns = [heads.index(head) for head in some]
    part = PatchScores(full.unedited, full.unpatched[:, columns], full.patched[:, columns])
    assert_patches_close(engine.patch_heads(prompts, values, some), part)


@few
@given(data=st.data(), max_rows=st.sampled_from(MAX_ROWS))
def test_columns_come_in_the_order_asked(tiny_lm: LanguageModel, data: st.DataObject, max_rows: int) -> None:
    heads = all_heads(tiny_lm)
    shuffled = data.draw(st.permutations(heads))
    prompts, values, engine = prompts_of(tiny_lm, [3, 8]), values_of(tiny_lm), SharedPrefixEngine(tiny_lm, max_rows)
    ordered = engine.patch_heads(prompts, values, heads)
    columns = [heads.index(head) for head in shuffled]
    asked = PatchScores(ordered.unedited, ordered.unpatched[:, columns], ordered.patched[:, columns])
    assert_patches_bit_equal(engine.patch_heads(prompts, values, shuffled), asked)


@pytest.mark.parametrize("max_rows", MAX_ROWS)
def test_two_runs_are_bit_equal(tiny_lm: LanguageModel, max_rows: int) -> None:
    prompts, values, vectors = prompts_of(tiny_lm, [5, 1, 9]), values_of(tiny_lm), vectors_of(tiny_lm)
    one, two = SharedPrefixEngine(tiny_lm, max_rows), SharedPrefixEngine(tiny_lm, max_rows)
    heads, cells = all_heads(tiny_lm), all_cells(tiny_lm)
    assert_patches_bit_equal(one.patch_heads(prompts, values, heads), two.patch_heads(prompts, values, heads))
    for found, expected in zip(
        one.inject(prompts, for_each(prompts, vectors), cells),
        two.inject(prompts, for_each(prompts, vectors), cells),
        strict=True,
    ):
        assert_bit_equal(found, expected)


@few
@given(data=st.data(), max_rows=st.sampled_from(MAX_ROWS), lengths=lengths_of_prompts)
def test_one_cell_is_bit_equal_to_the_same_cell_of_a_grid(
    tiny_lm: LanguageModel, data: st.DataObject, max_rows: int, lengths: list[int]
) -> None:
    # A gathered multirun writes the same bytes as one job because of this.
    cells = all_cells(tiny_lm, (-2.0, 0.3, 1.0))
    some = data.draw(st.lists(st.sampled_from(cells), unique=True, min_size=1, max_size=3))
    prompts, vectors = prompts_of(tiny_lm, lengths), vectors_of(tiny_lm, 3)
    engine = SharedPrefixEngine(tiny_lm, max_rows)
    grid_before, grid_after = engine.inject(prompts, for_each(prompts, vectors), cells)
    before, after = engine.inject(prompts, for_each(prompts, vectors), some)
    assert_bit_equal(before, grid_before)
    assert_bit_equal(after, grid_after[:, :, [cells.index(cell) for cell in some]])


@pytest.mark.parametrize("n_prompts", [1, 5, 12])
def test_cells_that_share_a_pass_are_those_of_the_naive_loop(tiny_lm: LanguageModel, n_prompts: int) -> None:
    # Alphas that share slots and that do not; several passes a layer, with slots left empty.
    cells = [Cell(layer, alpha) for layer in (2, 0) for alpha in (3.0, 0.5, -1.0, 1.0, 2.0, 0.0, 1.5, 0.75, 6.0)]
    prompts, vectors = prompts_of(tiny_lm, [3 + i % 4 for i in range(n_prompts)]), vectors_of(tiny_lm, 1)
    found = SharedPrefixEngine(tiny_lm, 4096).inject(prompts, for_each(prompts, vectors), cells)[1]
    assert_close(found, NaiveEngine(tiny_lm).inject(prompts, for_each(prompts, vectors), cells)[1])


@pytest.mark.parametrize("alphas", [(0.5, 1.0, 2.0), (1.0, 2.0, 3.0, 4.0), (0.5, 1.0, 1.5, 2.0), (-1.0, 1.0)])
def test_the_usual_grids_fit_one_pass(tiny_llama: LanguageModel, alphas: tuple[float, ...]) -> None:
    calls: list[int] = []
    hook = tiny_llama.blocks[-1].register_forward_pre_hook(lambda *_: calls.append(1))
    prompts, vectors = prompts_of(tiny_llama, [5] * 16), vectors_of(tiny_llama, 1)  # rows for four cells a pass
    counts = []
    for cells in ([Cell(0, alphas[0])], [Cell(0, alpha) for alpha in alphas]):
        calls.clear()
        SharedPrefixEngine(tiny_llama, 4096).inject(prompts, for_each(prompts, vectors), cells)
        counts.append(len(calls))
    hook.remove()
    assert counts[1] == counts[0] > 0


@pytest.mark.parametrize("mode", ["naive", "shared_prefix"])
def test_progress_counts_every_prompt_and_every_row(tiny_llama: LanguageModel, mode: str) -> None:
    done: list[int] = []
    engine, prompts = make_engine(tiny_llama, mode, 16), prompts_of(tiny_llama, [4, 2, 5])
    engine.patch_heads(prompts, values_of(tiny_llama), [Head(0, 1), Head(2, 3)], done.append)
    assert sum(done) == 3
    done.clear()
    engine.inject(prompts, for_each(prompts, vectors_of(tiny_llama, 2)), all_cells(tiny_llama), done.append)
    assert sum(done) == 3 * 2 * 6
