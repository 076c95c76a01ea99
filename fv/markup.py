"""HTML for notebooks: every text from data is escaped, and its control characters are written out."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from fv.characters import visible

MOST_ROWS = 100
"""Most rows of a table that are shown; a line below counts the others."""


def paragraph(text: str) -> str:
    """A text as a paragraph."""
    return f"<p>{_text(text)}</p>"


def listing(lines: Iterable[str]) -> str:
    """Lines as a list, one below another; empty if there are none."""
    items = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def html_table(names: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Rows under the names of their columns; floats have three significant digits, None is an empty cell."""
    every = list(rows)
    head = "".join(f"<th>{_text(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{_text(_cell(cell))}</td>' for cell in row)}</tr>" for row in every[:MOST_ROWS])
    more = paragraph(f"… and {len(every) - MOST_ROWS} more rows.") if len(every) > MOST_ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def frame(rows: Any) -> str:
    """A pandas table as HTML, without its index."""
    return html_table(list(rows.columns), rows.astype(object).where(rows.notna(), None).itertuples(index=False))


def _cell(value: object) -> object:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else value


def _text(value: object) -> str:
    return escape(visible(str(value)))
