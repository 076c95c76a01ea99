"""Tables that the data commands print."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fv.data.checks import Finding
from fv.data.relations import Relations
from fv.display import print_line, print_table

if TYPE_CHECKING:
    from fv.data.corruption_report import CorruptionReport
    from fv.data.token_report import TokenReport

MAX_SHOWN = 20
"""Number of findings of one kind that are shown for a relation; the others are counted."""


def print_relations(file: Relations) -> None:
    """Print every relation with its counts."""
    columns = ("relation", "pairs", "distinct inputs", "distinct outputs", "duplicates", "ambiguous inputs")
    rows = [
        (
            relation.q_id,
            len(relation.pairs),
            len({pair.exA for pair in relation.pairs}),
            len({pair.exB for pair in relation.pairs}),
            relation.n_duplicates,
            relation.n_one_to_many,
        )
        for relation in file.relations
    ]
    print_table(f"{file.path}", columns, rows)
    print_line(f"{len(rows)} relations, {sum(row[1] for row in rows)} pairs")


def print_reports(title: str, reports: "Sequence[TokenReport]") -> None:
    """Print the properties of each relation for a tokenizer."""
    tokens = ("majority", "answer tokens", "colliding")
    columns = ("relation", "pairs", "outputs", *tokens, "max demos", "fit queries", "max eval")
    rows = [
        (
            report.q_id,
            report.n_pairs,
            report.n_outputs,
            f"{report.majority:.0%}",
            f"{report.target_tokens[0]}–{report.target_tokens[2]} (mean {report.target_tokens[1]:.1f})",
            sum(map(len, report.collisions)),
            report.capacity.demos,
            report.capacity.queries,
            report.capacity.eval,
        )
        for report in reports
    ]
    print_table(title, columns, rows)
    print_line("Each maximum holds while the other counts stay as configured, for any seed;")
    print_line("with data.hold_out=outputs for the seed as configured.")
    print_line("Fit trials may be more than fit queries: these are then used again with other demonstrations.")


def print_corruption(reports: "Sequence[CorruptionReport]", name: str) -> None:
    """Print how the corrupted prompts of each relation were corrupted."""
    how = ("deranged", "from the relation", "permuted")
    columns = ("relation", "prompts", *how, "outputs right", "answer visible")
    rows = [
        (
            report.q_id,
            report.n_trials,
            report.n_deranged,
            report.n_relation,
            report.n_permuted,
            f"{report.right:.0%}",
            f"{report.n_visible} ({report.n_visible_clean} clean)",
        )
        for report in reports
    ]
    print_table("Corrupted prompts of the trials as configured", columns, rows)
    for report in reports:
        for line in report.warnings(name):
            print_line(f"\n{line}")


def print_findings(findings: Sequence[Finding]) -> None:
    """Print findings, grouped by relation and by kind."""
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.q_id, finding.kind].append(finding)
    for (q_id, kind), several in sorted(groups.items()):
        print_line(f"\n{q_id}: {kind} ({len(several)})")
        for finding in several[:MAX_SHOWN]:
            shown = finding.where[:MAX_SHOWN]
            more = f" and {len(finding.where) - len(shown)} more" if len(finding.where) > len(shown) else ""
            print_line(f"  {', '.join(shown)}{more}: {finding.what}")
        if len(several) > MAX_SHOWN:
            print_line(f"  … and {len(several) - MAX_SHOWN} more")
