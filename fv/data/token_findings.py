"""Findings that depend on the tokenizer, with the rows concerned. No torch here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fv.data.checks import Finding
from fv.data.rows import Row, place

if TYPE_CHECKING:
    from fv.data.token_report import TokenReport


def token_findings(rows: Sequence[Row], reports: "Sequence[TokenReport]") -> list[Finding]:
    """Findings on pairs that cannot be queries, and on outputs that share their first token.

    Args:
        rows: the rows of the relations.
        reports: the report on each relation under the tokenizer.
    """
    first: dict[tuple[str, str, str], Row] = {}
    by_output: dict[tuple[str, str], Row] = {}
    for row in rows:
        first.setdefault((row.q_id, row.exA, row.exB), row)
        by_output.setdefault((row.q_id, row.exB), row)
    findings = []
    for report in reports:
        for pair, why in report.mismatches:
            row = first[report.q_id, pair.exA, pair.exB]
            findings.append(Finding(report.q_id, "cannot be a query", (place(row.file, row.line),), why))
        for outputs in report.collisions:
            several = [by_output[report.q_id, output] for output in outputs]
            where = tuple(place(row.file, row.line) for row in several)
            findings.append(Finding(report.q_id, "outputs with one first token", where, ", ".join(map(repr, outputs))))
    return findings
