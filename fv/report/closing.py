"""The closing tables of Step6: what the chosen injections changed, and what else one might have done."""

from collections.abc import Mapping

from fv.display import print_table
from fv.evaluation.tables import NO_VECTOR
from fv.report.headline import p_shown, shown
from fv.report.numbers import interval
from fv.report.summary import Row, Summary, vector_name_of

BASELINES = {
    "few_shot": "few-shot prompt",
    "few_shot_corrupted": "corrupted prompt",
    "few_shot_corrupted_fv": "corrupted + vector",
    "layer_mean_replaced": "mean replaced",
    "layer_mean_added": "difference of means",
    "random_vector": "best random vector",
}
"""Conditions that the second table sets beside the vector, and what it calls them."""
WITHOUT_VECTOR = ("few_shot", "few_shot_corrupted", "layer_mean_replaced", "layer_mean_added")


def print_effects(title: str, summary: Summary, null: Mapping[tuple[str, str], tuple[float, int]]) -> None:
    """Print a row a vector and relation: its chosen cell, and what the injection changed on test trials.

    Args:
        title: of the table.
        summary: Step6's.
        null: {(vector, relation): p under the null, and of how many draws}, where it was run.
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
    """Print, a row a vector and relation, where the right answer stands after injection, and what could be had without.

    Args:
        summary: Step6's, with a headline.
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
    print_table("The right answer: accuracy, probability and mean rank, and what else gives it", names, rows)


def _share(row: Row) -> str:
    """The share of the few-shot prompt's gain, in per cent: `45% [35, 55]`; a dash where there is no gain."""
    mean, low, high = (row[f"share_of_few_shot{end}"] for end in ("", "_ci_low", "_ci_high"))
    if mean is None:
        return "–"
    ends = "" if low is None or high is None else f" [{100 * low:.0f}, {100 * high:.0f}]"
    return f"{mean:.0%}{ends}"


def _print_grid(title: str, summary: Summary) -> None:
    """The same of a grid alone, whose numbers hold no refits."""
    rows = []
    for row in summary.chosen:
        found = (row[f"mean_delta_logprob{end}"] for end in ("", "_ci_low", "_ci_high"))
        rows.append(
            (
                vector_name_of(row),
                row["layer"],
                f"{row['alpha']:g}",
                _accuracy(row, summary),
                interval(*found),
                row["n_test"],
            )
        )
    print_table(title, ("vector", "layer", "α", "accuracy", "Δ log p", "n"), rows)


def print_baselines(summary: Summary) -> None:
    """Print accuracy and Δ log p of what else one might do, a row of `Summary.compared` each."""
    rows = []
    for row in summary.compared:
        # A baseline's change is relative to the zero-shot prompt, whatever prompt it edits.
        unedited = summary.metrics("zero_shot", row["eval_qid"])[0]["logprob"].mean
        rows.append(
            (summary.name_of(row), *(_best(summary, row, condition, unedited) for condition in ("fv", *BASELINES)))
        )
    if rows:
        exact = dict.fromkeys(q for row in summary.compared if summary.lead(q := row["eval_qid"]) != "top1")
        counted = f"accuracy (exact match of {', '.join(exact)})" if exact else "accuracy"
        title = f"Beside it: {counted} and Δ log p relative to the zero-shot prompt"
        print_table(title, ("relation", "vector", *BASELINES.values()), rows)


def _best(summary: Summary, row: Row, condition: str, unedited: float) -> str:
    """Accuracy and change of log p of a condition, of its best draw."""
    q_id = row["eval_qid"]
    draws = summary.metrics(condition, q_id, NO_VECTOR if condition in WITHOUT_VECTOR else row["fv"])
    if not draws:
        return "–"
    best = max(draws, key=lambda metrics: metrics["logprob"].mean)
    return f"{best[summary.lead(q_id)].mean:.2f} {best['logprob'].mean - unedited:+.1f}"


def _accuracy(row: Row, summary: Summary) -> str:
    """Without and with the vector, by exact match where first tokens say nothing."""
    before, after = summary.answered(row)
    return f"{before:.2f} → {after:.2f}{'' if summary.lead(row['eval_qid']) == 'top1' else ' exact'}"
