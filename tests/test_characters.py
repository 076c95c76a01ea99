"""Characters of data that act on a terminal are shown, wherever a command writes."""

import csv
import logging
import warnings
from pathlib import Path

import pytest
from conftest import MakeConfig
from hostile_texts import ACTING, ANSWERS, NAMES
from hypothesis import given
from hypothesis import strategies as st

import fv
from entrypoints.errors import UserError, user_errors
from fv.characters import visible
from fv.data.checks import Finding
from fv.display import print_line, print_table, print_text
from fv.errors import ConfigError
from fv.runs.logs import log_to_file
from fv.steps.data import run_list
from fv.steps.data_tables import print_findings

SENT = "\x1b\r\x07\x9b\u202e\u2066\u2028"
"""What none of our output may hold."""


def assert_tame(text: str) -> None:
    assert not {*SENT} & {*text}, text
    text.encode("utf-8")


@given(text=st.text(st.characters(exclude_categories=[])) | st.sampled_from(ACTING))
def test_what_is_visible_can_be_written_and_says_what_was_there(text: str) -> None:
    shown = visible(text)
    assert_tame(shown)
    assert visible(shown) == shown
    kept = [char for char in text if char in "\t\n" or (char.isprintable() and char != "\\")]
    assert [char for char in kept if char not in shown] == []


@pytest.mark.parametrize("text", [*NAMES, *ANSWERS, "Q: hot\n\tA:", "שלום\u200f", "👩🏽‍🚀", "é", "C:\\x1b"])
def test_words_of_all_scripts_stay_as_they_are(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize("text", ACTING)
def test_messages_that_quote_data_act_on_no_terminal(text: str, tmp_path: Path) -> None:
    for error in (fv.FvError(f"bad {text}"), ConfigError(f"bad {text}"), fv.FvWarning(f"bad {text}")):
        assert str(error) == f"bad {visible(text)}"
    for raised in (ConfigError(text), ValueError(text), OSError(2, "No such file", text)):
        with pytest.raises(UserError) as found, user_errors():
            raise raised
        assert_tame(str(found.value))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fv.errors.warn(text)
    assert_tame(str(caught[0].message))


@pytest.mark.parametrize("text", ACTING)
def test_everything_that_prints_shows_what_would_act(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_line(text)
    print_text(text)
    print_table(text, (text, "n"), [(text, text)])
    print_findings([Finding(text, text, (text,), text)])
    printed = capsys.readouterr().out
    assert_tame(printed)
    assert printed.splitlines()[0] == visible(text)


def test_logs_show_what_would_act(tmp_path: Path) -> None:
    with log_to_file(tmp_path / "step.log"):
        for text in ACTING:
            logging.getLogger("fv.data").warning("%s has two outputs.", text)
    written = (tmp_path / "step.log").read_text(encoding="utf-8")
    assert_tame(written)
    assert written.count("has two outputs") == len(ACTING)


def test_data_commands_show_what_would_act(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "acting.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["q_id", "exA", "exB"])
        writer.writerows([ACTING[0], f"{n}", f"out {n}"] for n in range(4))
    run_list(make_config(f"data.relation_csv_path={tmp_path / 'acting.csv'}", entrypoint="data"))
    printed = capsys.readouterr().out
    assert_tame(printed)
    assert visible(ACTING[0])[:8] in printed
