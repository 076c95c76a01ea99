"""Tables fit the terminal, and lose nothing by it; bars are for terminals alone."""

import io
import os
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from fv import progress
from fv.display import print_table, print_text
from fv.progress import activity, progress_bar, show_bars

COLUMNS = st.sampled_from(["vector", "top heads", "α", "minus corrupted", "Δ log p", "n"])
CELLS = st.sampled_from(["0.00 → 0.14", "+10.5 [-3.5, 15.5]", "20.5 14.1 18.6", "17", "–", "0.064", "관계"])


def printed(width: int, capsys: pytest.CaptureFixture[str], *table: Any, n_text: int = 1) -> list[str]:
    with mock.patch.dict(os.environ, COLUMNS=str(width)):
        title, header, rows = table
        print_table(title, header, rows, n_text=n_text)
    return capsys.readouterr().out.splitlines()


@given(width=st.integers(50, 160), names=st.lists(COLUMNS, min_size=2, max_size=9), data=st.data())
def test_a_table_of_any_width_is_printed_whole_within_the_terminal(
    width: int, names: list[str], data: st.DataObject
) -> None:
    rows = [(f"q{i}", *data.draw(st.tuples(*[CELLS] * (len(names) - 1)))) for i in range(3)]
    out = io.StringIO()
    with mock.patch.dict(os.environ, COLUMNS=str(width)), mock.patch("sys.stdout", out):
        print_table("A title", names, rows)
    lines = out.getvalue().splitlines()
    assert all(cell_len(line) <= width for line in lines)
    for name, *cells in rows:
        own = [line.split(maxsplit=1) for line in lines if line.split()[:1] == [name]]
        # Every part begins with the row's name, and the parts together hold the row's cells in order.
        assert " ".join(" ".join(rest) for _, *rest in own).split() == " ".join(cells).split()


def test_a_table_that_fits_is_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("a", "+1.0 [0.5, 1.5]", "+2.0 [1.5, 2.5]")]
    wide, narrow = (printed(width, capsys, "T", ("vector", "x", "y"), rows) for width in (80, 30))
    assert sum("─" in line for line in wide) == 1 and sum("─" in line for line in narrow) == 2


def test_a_name_that_is_wider_than_the_terminal_is_folded_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(40, capsys, "T", ("vector", "n"), [("x" * 100, "7")])
    assert "".join(lines).count("x") == 100 and max(map(len, lines)) <= 40


def test_names_are_no_signs_of_the_printers(capsys: pytest.CaptureFixture[str]) -> None:
    assert any("[b]:smile:[/b]" in line for line in printed(80, capsys, "[i]", ("q",), [("[b]:smile:[/b]",)]))


def test_a_path_is_printed_in_one_piece(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/".join(["folder"] * 40)
    print_text(f"Run: {path}", in_one_piece=True)
    assert path in capsys.readouterr().out


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is drawn on a terminal of 80 columns."""
    drawn = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=drawn, force_terminal=True, width=80))
    return drawn


def test_a_bar_shows_the_relation_what_is_done_and_what_is_left(screen: io.StringIO) -> None:
    with progress_bar("StepD", 20) as (advance, rename):
        rename("country_capital[b]")
        advance(5)
    assert "StepD country_capital[b]" in screen.getvalue() and "5/20" in screen.getvalue()
    assert "left" in screen.getvalue()


def test_a_quiet_command_and_one_without_a_terminal_draw_nothing(
    screen: io.StringIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show_bars(False)
    try:
        with activity("Loading"), progress_bar("StepD", 2) as (advance, _):
            advance(1)
    finally:
        show_bars(True)
    monkeypatch.setattr(progress, "console", Console(stderr=True, force_terminal=False))
    with activity("Loading"), progress_bar("StepD", 2) as (advance, _):
        advance(1)
    assert (screen.getvalue(), capsys.readouterr()) == ("", ("", ""))
