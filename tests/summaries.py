"""Summaries of evaluations made by hand, with the values that a test is about and no others."""

from collections.abc import Mapping, Sequence
from typing import Any

from fv.evaluation.eval_summary import ConditionMeans, Contrast, Difference, Estimate, EvalSummary
from fv.report.summary import Summary

Rows = Sequence[Mapping[str, Any]]


def made_summary(held_out: Rows = (), contrasts: Rows = (), **parts: Rows) -> Summary:
    """A summary of rows as `eval_summary.json` has them; values that a row leaves out are not checked."""
    means = [ConditionMeans.model_construct(**{**row, "metrics": _metrics(Estimate, row)}) for row in held_out]
    differences = [Contrast.model_construct(**{**row, "metrics": _metrics(Difference, row)}) for row in contrasts]
    given: dict[str, Any] = {name: [dict(row) for row in rows] for name, rows in parts.items()}
    return Summary(EvalSummary.model_construct(held_out=means, contrasts=differences, **given))


def _metrics(kind: type[Estimate] | type[Difference], row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: kind.model_construct(**values) for name, values in row["metrics"].items()}
