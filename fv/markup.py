"""HTML for notebooks: the one way that text of data becomes markup, escaped and with nothing that turns it around."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from fv.characters import visible

MOST_ROWS = 100
"""Rows of a table that are shown; how many others there are is said."""


def paragraph(text: str) -> str:
    """A text, as it is."""
    return f"<p>{_text(text)}</p>"


def listing(lines: Iterable[str]) -> str:
    """Lines one below another; nothing where there are none."""
    items = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def html_table(names: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Rows under the names of their columns; numbers to three digits, and nothing where there is none."""
    every = list(rows)
    head = "".join(f"<th>{_text(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{_text(_cell(cell))}</td>' for cell in row)}</tr>" for row in every[:MOST_ROWS])
    more = paragraph(f"… and {len(every) - MOST_ROWS} more rows.") if len(every) > MOST_ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def frame(rows: Any) -> str:
    """A pandas table without its index."""
    return html_table(list(rows.columns), rows.astype(object).where(rows.notna(), None).itertuples(index=False))


def _cell(value: object) -> object:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else value


def _text(value: object) -> str:
    return escape(visible(str(value)))
