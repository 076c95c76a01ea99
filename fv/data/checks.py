"""Checks of a relation's rows as text, before any tokenizer sees them. No torch here."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fv.data.relations import normalise
from fv.data.rows import Row, place

_JOINERS = "\u200c\u200d"
"""Invisible characters with which emoji and some scripts are spelled."""

_ALTERNATIVES = re.compile(r"[^\W\d_][^/|;]*(?:\s*[/|;]\s*[^\W\d_][^/|;]*)+")
"""Several texts with /, | or ; between them, each beginning with a letter: not a date, a fraction or an address."""


class Finding(NamedTuple):
    """Something suspicious in one or several rows of a relation.

    Attributes:
        q_id: the relation.
        kind: the kind of flaw, in words; equal for equal flaws.
        where: the rows, as file and line.
        what: the cells concerned.
    """

    q_id: str
    kind: str
    where: tuple[str, ...]
    what: str


def check_rows(rows: Sequence[Row]) -> list[Finding]:
    """All findings in `rows`, relation by relation, each kind in the order of lines."""
    by_qid: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_qid[row.q_id].append(row)
    checks = (_duplicates, _respelled, _several_outputs, _reversed, _identities, _alternatives, _spaces, _characters)
    return [finding for q_id in sorted(by_qid) for check in checks for finding in check(q_id, by_qid[q_id])]


def _where(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(place(row.file, row.line) for row in rows)


def _shown(row: Row) -> str:
    return f"{_cut(row.exA)} → {_cut(row.exB)}"


def _cut(text: str, limit: int = 60) -> str:
    return repr(text if len(text) <= limit else text[:limit] + "…")


def _duplicates(q_id: str, rows: list[Row]) -> Iterator[Finding]:
    same: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        same[row.exA, row.exB].append(row)
    for several in same.values():
        if len(several) > 1:
            yield Finding(q_id, "duplicate pair", _where(several), _shown(several[0]))


def _respelled(q_id: str, rows: list[Row]) -> Iterator[Finding]:
    same: dict[tuple[str, str], dict[tuple[str, str], Row]] = defaultdict(dict)
    for row in rows:
        same[normalise(row.exA), normalise(row.exB)].setdefault((row.exA, row.exB), row)
    for spellings in same.values():
        if len(spellings) > 1:
            several = list(spellings.values())
            yield Finding(q_id, "one pair in several spellings", _where(several), " | ".join(map(_shown, several[:3])))


def _several_outputs(q_id: str, rows: list[Row]) -> Iterator[Finding]:
    outputs: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        outputs[normalise(row.exA)].setdefault(normalise(row.exB), row)
    for several in outputs.values():
        if len(several) > 1:
            first = next(iter(several.values()))
            shown = ", ".join(_cut(row.exB) for row in list(several.values())[:5])
            yield Finding(
                q_id, "input with several outputs", _where(list(several.values())), f"{_cut(first.exA)} → {shown}"
            )


def _reversed(q_id: str, rows: list[Row]) -> Iterator[Finding]:
    seen: dict[tuple[str, str], Row] = {}
    for row in rows:
        ends = normalise(row.exA), normalise(row.exB)
        if ends in seen or ends[0] == ends[1]:
            continue
        seen[ends] = row
        if other := seen.get((ends[1], ends[0])):
            yield Finding(q_id, "reversed pair", _where([other, row]), _shown(row))


def _identities(q_id: str, rows: list[Row]) -> Iterator[Finding]:
    for row in rows:
        if row.exA == row.exB:
            yield Finding(q_id, "output equal to its input", _where([row]), _cut(row.exA))


def _alternatives(q_id: str, rows: list[Row]) -> Iterator[Finding]:
    for row in rows:
        if several := [text for text in (row.exA, row.exB) if _ALTERNATIVES.fullmatch(text)]:
            kind = "cell that reads like alternatives; it is taken as one text"
            yield Finding(q_id, kind, _where([row]), ", ".join(map(_cut, several)))


def _spaces(q_id: str, rows: list[Row]) -> Iterator[Finding]:
    for row in rows:
        odd = [text for text in (row.q_id, row.exA, row.exB) if text != text.strip() or "  " in text]
        if odd:
            yield Finding(q_id, "outer or repeated spaces", _where([row]), ", ".join(map(_cut, odd)))


def _characters(q_id: str, rows: list[Row]) -> Iterator[Finding]:
    for row in rows:
        cells = [text for text in (row.q_id, row.exA, row.exB) if not text.isascii() or not text.isprintable()]
        loose = [text for text in cells if not unicodedata.is_normalized("NFC", text)]
        if loose:
            yield Finding(q_id, "not in Unicode NFC", _where([row]), ", ".join(map(_cut, loose)))
        odd = dict.fromkeys(character for text in cells for character in text if _is_invisible(character))
        if odd:
            names = ", ".join(f"U+{ord(c):04X} {unicodedata.name(c, 'control character')}" for c in odd)
            yield Finding(q_id, "invisible character or unusual space", _where([row]), names)


def _is_invisible(character: str) -> bool:
    if character in " \n\r\t" or character in _JOINERS:
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Zs", "Zl", "Zp")
