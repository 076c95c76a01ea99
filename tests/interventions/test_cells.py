"""Cells and heads are places that a model may have: whole numbers from 0, and a finite strength."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fv

NO_INDEX = st.integers(max_value=-1) | st.sampled_from([1.0, 0.5, "1", None, True, float("nan"), (1,)])
NO_STRENGTH = st.sampled_from([float("nan"), float("inf"), float("-inf"), "1", None, True, [1.0], 1j])


@given(index=NO_INDEX, strength=NO_STRENGTH)
def test_what_is_no_place_is_refused_by_its_name(index: Any, strength: Any) -> None:
    vector: Any = fv.Vector.of(torch.ones(4))
    for place, name in (
        (lambda: fv.Cell(index, 1.0), "Cell.layer"),
        (lambda: fv.Cell(1, strength), "Cell.alpha"),
        (lambda: fv.Head(index, 0), "Head.layer"),
        (lambda: fv.Head(0, index), "Head.head"),
        (lambda: vector.at((1, strength)), "Cell.alpha"),
        (lambda: vector.at(layer=1, alpha=strength), "Cell.alpha"),
    ):
        with pytest.raises(fv.FvError, match=rf"{name}=.* must be a"):
            place()


@given(layer=st.integers(0, 200), alpha=st.floats(allow_nan=False, allow_infinity=False))
def test_a_place_is_the_same_pair_of_numbers_whatever_library_they_are_of(layer: int, alpha: float) -> None:
    of_numpy: Any = np.int64(layer), np.float64(alpha), np.int32(layer)
    cell = fv.Cell(*of_numpy[:2])
    assert cell == (layer, alpha) == fv.Cell(layer, alpha) and type(cell.layer) is int
    assert pickle.loads(pickle.dumps(cell)) == cell
    assert fv.Head(of_numpy[2], 3) == (layer, 3) and repr(fv.Head(layer, 3)) == f"Head(layer={layer}, head=3)"


@pytest.mark.parametrize("given", [7, "11", (1,), (1, 2.0, 3)])
def test_at_takes_a_cell_and_nothing_else(given: Any) -> None:
    with pytest.raises(fv.FvError, match=r"at\(\) takes a cell, such as result\.cell"):
        fv.Vector.of(torch.ones(4)).at(given)
