"""Blocks that share values in one table, against the concatenation of a table per block."""

from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from fv.tables import arrays_of, stacked, tables_of

texts = st.text(st.characters(codec="utf-8"), max_size=3)
KINDS = (st.integers(-3, 3), st.floats(-2, 2), st.booleans(), texts, st.none())
values = st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(kind, kind, kind)) | st.tuples(
    *[st.none() | st.integers(0, 2) | st.floats(0, 1) | texts] * 3
)


@given(a=values, b=values, counts=st.tuples(*[st.integers(1, 3)] * 3))
def test_stacked_blocks_are_what_a_concatenation_of_tables_is(
    a: tuple[Any, ...], b: tuple[Any, ...], counts: tuple[int, ...]
) -> None:
    rows = [{"a": one, "b": other} for one, other in zip(a, b, strict=True)]
    blocks = [{"x": np.arange(n) / 7, "t": np.array([f"{n}\0"] * n, dtype=object)} for n in counts]
    found = stacked(rows, blocks)
    tables = [pd.DataFrame({**row, **block}) for row, block in zip(rows, blocks, strict=True)]
    expected = pd.concat(tables, ignore_index=True)
    pd.testing.assert_frame_equal(found, expected)
    again = tables_of(arrays_of({"t": found}))["t"]
    pd.testing.assert_frame_equal(again, tables_of(arrays_of({"t": expected}))["t"])
