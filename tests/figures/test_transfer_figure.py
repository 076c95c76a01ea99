"""The transfer heat map shows what its table says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fv.figures.transfer import transfer_heatmap

ROWS = [("a", "a", 4, 2.0, 1.0, 3.0), ("a", "b", 4, -1.0, -2.0, 0.0), ("b", "b", 4, 0.5, 0.0, 1.0)]
TABLE = pd.DataFrame(ROWS, columns=["fv", "eval_qid", "n", "effect", "ci_low", "ci_high"])


def test_each_cell_is_coloured_by_its_effect_about_zero_and_a_missing_pair_is_not() -> None:
    figure = transfer_heatmap(TABLE)
    (image,) = figure.axes[0].images
    shown = np.ma.filled(image.get_array(), np.nan)
    np.testing.assert_array_equal(shown, [[2.0, -1.0], [np.nan, 0.5]])
    assert image.get_clim() == (-2.0, 2.0)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b"]
    pd.testing.assert_frame_equal(figure.table, TABLE)


@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_same_table_gives_the_same_bytes(tmp_path: Path, form: str) -> None:
    for name in ("one", "two"):
        transfer_heatmap(TABLE).savefig(tmp_path / f"{name}.{form}")
    assert (tmp_path / f"one.{form}").read_bytes() == (tmp_path / f"two.{form}").read_bytes()


def test_effects_of_zero_are_drawn() -> None:
    (image,) = transfer_heatmap(TABLE.assign(effect=0.0)).axes[0].images
    assert image.get_clim() == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (TABLE.drop(columns="effect"), "No column effect"),
        (TABLE.iloc[:0], "needs rows"),
        (pd.concat([TABLE, TABLE]), "one for each pair"),
    ],
)
def test_a_table_that_it_cannot_show_is_refused(table: pd.DataFrame, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        transfer_heatmap(table)
