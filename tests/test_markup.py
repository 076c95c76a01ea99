"""Notebooks show text of data as text: read by an HTML parser, nothing of it is markup."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from hostile_texts import ACTING, ANSWERS, NAMES
from hypothesis import given
from hypothesis import strategies as st
from page_reader import Page

import fv
from fv.characters import visible
from fv.config import TemplateConfig
from fv.data.reading import as_relations
from fv.evaluation.result import Result
from fv.markup import frame, html_table, listing, paragraph
from fv.runs.run import Run

ELEMENTS = {"table", "thead", "tbody", "tr", "th", "td", "p", "ul", "li"}
HOSTILE = st.sampled_from([*NAMES, *ANSWERS, *ACTING, "</td></tr></table><script>", "a & b", "&lt;b&gt;"]) | st.text()


def texts(html: str, tag: str) -> list[str]:
    return list(Page(html).texts[tag])


def assert_harmless(html: str) -> None:
    """No element that is not ours, no attribute at all, and no character that acts."""
    found = Page(html).elements
    assert found and {tag for tag, _ in found} <= ELEMENTS and not any(attributes for _, attributes in found)
    assert visible(html) == html


@given(cell=HOSTILE, name=HOSTILE)
def test_any_text_comes_out_of_a_parser_as_it_went_in(cell: str, name: str) -> None:
    html = html_table([name, "n", "none"], [(cell, 1.0, None)])
    assert_harmless(html)
    assert texts(html, "th") == _read([visible(name), "n", "none"])
    assert texts(html, "td") == _read([visible(cell), "1", ""])
    for html, tag in ((paragraph(cell), "p"), (listing([cell]), "li")):
        assert_harmless(html)
        assert texts(html, tag) == _read([visible(cell)])


def _read(given: list[str]) -> list[str]:
    """Texts as a parser of HTML gives them back."""
    return [text.replace("\r\n", "\n").replace("\r", "\n") for text in given]


@pytest.mark.parametrize("name", NAMES)
def test_a_pandas_table_is_a_table_of_texts(name: str) -> None:
    html = frame(pd.DataFrame([[name, 0.25, None]], columns=[name, "n", "none"], index=[name]))
    assert_harmless(html)
    assert texts(html, "th") == [name, "n", "none"] and texts(html, "td") == [name, "0.25", ""]


def test_long_tables_say_what_they_leave_out() -> None:
    html = html_table(["n"], ((n,) for n in range(250)))
    assert texts(html, "td") == [str(n) for n in range(100)] and texts(html, "p") == ["… and 150 more rows."]


@pytest.fixture(scope="module")
def shown(hostile_run: Run) -> dict[str, Any]:
    """Each kind of object that a notebook shows, of relations with hostile names and answers."""
    relations = as_relations({name: [("in", answer) for answer in ANSWERS] for name in (*NAMES, *ACTING[:2])})
    made = Result(
        hostile_run.result.rows, hostile_run.result.trials, hostile_run.result.tables, ("<b>mind</b>", ACTING[0])
    )
    return {
        "relations": relations,
        "trials": hostile_run.trials,
        "effects": hostile_run.effects,
        "effects of one": hostile_run.effects[NAMES[0]],
        "vector": next(iter(hostile_run.vectors.values())),
        "result": made,
        "table": made.table,
        "run": hostile_run,
    }


def test_what_notebooks_show_of_hostile_data_is_text(shown: dict[str, Any]) -> None:
    for name, each in shown.items():
        html = each._repr_html_()
        assert_harmless(html)
        read = "".join("".join(own) for own in Page(html).texts.values())
        assert name in ("vector",) or any(hostile in read for hostile in NAMES), name
    assert texts(shown["result"]._repr_html_(), "li") == ["<b>mind</b>", visible(ACTING[0])]


def test_every_object_that_shows_itself_in_notebooks_is_looked_at(shown: dict[str, Any]) -> None:
    looked_at = {type(each).__name__ for each in shown.values()}
    assert {cls.__name__ for cls in _showing()} - looked_at == {
        "Price",
        "MakerComparison",
    }  # of numbers and names of ours alone


def _showing() -> Iterator[type]:
    for name in fv.__all__:
        public = getattr(fv, name)
        if isinstance(public, type) and "_repr_html_" in vars(public):
            yield public


def test_what_is_printed_of_hostile_objects_acts_on_no_terminal(shown: dict[str, Any]) -> None:
    for each in shown.values():
        assert visible(repr(each)) == repr(each) and visible(str(each)) == str(each)


def test_a_template_that_is_markup_is_shown_as_text(tiny_llama: Any) -> None:
    template = TemplateConfig(query="<script>{exA}</script>:")
    pairs = [("hot", "cold"), ("up", "down"), ("big", "small"), ("old", "new"), ("wet", "dry")]
    trials = fv.sample_trials({"r": pairs}, tiny_llama, demos=2, fit=2, held_out=2, template=template)
    assert_harmless(trials._repr_html_())
