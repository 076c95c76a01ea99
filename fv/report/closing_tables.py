"""Closing tables of Step6: the effects of the chosen injections, and of alternatives to them."""

from collections.abc import Mapping

from fv.display import print_table
from fv.evaluation.tables import NO_VECTOR
from fv.evaluation.words import belongs_to_vector, compared_conditions
from fv.report.headline import p_shown, shown
from fv.report.summary import Summary, vector_name_of
from fv.report.words import terminal_interval
from fv.tables import TableRow


def print_effects(title: str, summary: Summary, null: Mapping[tuple[str, str], tuple[float, int]]) -> None:
    """Print one row per vector and relation: its chosen cell, and the effects of the injection on test trials.

    Args:
        title: title of the table.
        summary: Step6's summary.
        null: {(vector, relation): (p under the null, number of draws)}; empty without a null.
    """
    if not summary.headline:
        return _print_grid(title, summary)
    n_draws = max((n for _, n in null.values()), default=0)
    names = ["vector", "layer", "α", "Δ log p", "Δ logit difference", "log p minus corrupted"]
    names += ["logit difference minus corrupted", "Holm p", *([f"null p ({n_draws})"] if null else []), "n"]
    rows = []
    for chosen in summary.chosen:
        row = summary.headline[chosen["fv"], chosen["eval_qid"]]
        numbers = ("delta_logprob", "delta_logit_difference", "minus_corrupted", "minus_corrupted_logit_difference")
        p = null.get((chosen["fv"], chosen["eval_qid"]))
        rows.append(
            (
                vector_name_of(chosen),
                chosen["layer"],
                f"{chosen['alpha']:g}",
                *(shown(row, name) for name in numbers),
                p_shown(row["p_holm"]),
                *([p_shown(p[0] if p else None)] if null else []),
                row["n"],
            )
        )
    return print_table(title, names, rows)


def print_answers(summary: Summary) -> None:
    """Print the right answer's accuracy, p and rank before and after injection, and the accuracy of simple baselines.

    There is one row per vector and relation.

    Args:
        summary: Step6's summary, which must have a headline.
    """
    names = ("vector", "accuracy", "p", "rank", "of few-shot gain", "constant, repeat", "new answers")
    rows = []
    for chosen in summary.chosen:
        row = summary.headline[chosen["fv"], chosen["eval_qid"]]
        rows.append(
            (
                vector_name_of(chosen),
                _accuracy(chosen, summary),
                f"{row['p_before']:.3f} → {row['p']:.3f}",
                f"{row['rank_before']:,.0f} → {row['rank']:,.0f}",
                _share(row),
                f"{row['constant']:.2f}, {row['repeat']:.2f}",
                f"{row['delta_logprob_answer_new']:+.1f} ({row['n_answer_new']})" if row["n_answer_new"] else "none",
            )
        )
    print_table("The right answer: accuracy, probability and mean rank, and simple baselines", names, rows)


def _share(row: TableRow) -> str:
    """Text of the share of the few-shot prompt's gain, in per cent: `45% [35, 55]`; a dash if there is no gain."""
    mean, low, high = (row[f"share_of_few_shot{end}"] for end in ("", "_ci_low", "_ci_high"))
    if mean is None:
        return "–"
    ends = "" if low is None or high is None else f" [{100 * low:.0f}, {100 * high:.0f}]"
    return f"{mean:.0%}{ends}"


def _print_grid(title: str, summary: Summary) -> None:
    """Print the effects of a grid without conditions, whose intervals include no refits."""
    rows = []
    for row in summary.chosen:
        found = (row[f"mean_delta_logprob{end}"] for end in ("", "_ci_low", "_ci_high"))
        rows.append(
            (
                vector_name_of(row),
                row["layer"],
                f"{row['alpha']:g}",
                _accuracy(row, summary),
                terminal_interval(*found),
                row["n_test"],
            )
        )
    print_table(title, ("vector", "layer", "α", "accuracy", "Δ log p", "n"), rows)


def print_baselines(summary: Summary) -> None:
    """Print accuracy and Δ log p of the alternatives to the vector, one line per row of `Summary.compared`."""
    rows, baselines = [], compared_conditions()
    for row in summary.compared:
        # Changes are relative to the zero-shot prompt here, also for baselines that edit another prompt.
        unedited = summary.metrics("zero_shot", row["eval_qid"])[0]["logprob"].mean
        rows.append(
            (summary.name_of(row), *(_best(summary, row, condition, unedited) for condition in ("fv", *baselines)))
        )
    if rows:
        exact = dict.fromkeys(q for row in summary.compared if summary.lead(q := row["eval_qid"]) != "top1")
        counted = f"accuracy (exact match of {', '.join(exact)})" if exact else "accuracy"
        title = f"For comparison: {counted} and Δ log p relative to the zero-shot prompt"
        print_table(title, ("relation", "vector", *baselines.values()), rows)


def _best(summary: Summary, row: TableRow, condition: str, unedited: float) -> str:
    """Text of a condition's accuracy and change in log p, for its best draw."""
    q_id = row["eval_qid"]
    draws = summary.metrics(condition, q_id, row["fv"] if belongs_to_vector(condition) else NO_VECTOR)
    if not draws:
        return "–"
    best = max(draws, key=lambda metrics: metrics["logprob"].mean)
    return f"{best[summary.lead(q_id)].mean:.2f} {best['logprob'].mean - unedited:+.1f}"


def _accuracy(row: TableRow, summary: Summary) -> str:
    """Text of the accuracies without and with the vector, by exact match if first tokens collide."""
    before, after = summary.answered(row)
    return f"{before:.2f} → {after:.2f}{'' if summary.lead(row['eval_qid']) == 'top1' else ' exact'}"
