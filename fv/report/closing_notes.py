"""Notes under the closing tables: sentences that help to read them correctly."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from fv.evaluation.tables import NO_VECTOR
from fv.evaluation.words import known_words
from fv.report.headline import specific_sentence, verb_of
from fv.report.summary import Summary
from fv.report.words import head_names
from fv.tables import TableRow
from fv.vectors.kinds import OF_AIE

MOST_HEADS = 3
"""Largest number of a vector's heads that a sentence names."""


def closing_notes(summary: Summary) -> list[str]:
    """Sentences on the trials, the choice of cells, the columns, and the baselines that do better."""
    held_out = summary.has_held_out
    draws = _draws(summary) if held_out else ""
    intervals = f"intervals have level {summary.values.confidence:.0%}{draws}."
    how = f"{_how_chosen(summary)}; {intervals} {_columns(summary)}"
    if not held_out:
        return [how]
    specific = specific_sentence(summary.headline.values(), summary.values.confidence)
    return [how, *([specific] if specific else []), *effects_in_words(summary), *baselines_that_win(summary)]


def top_heads(summary: Summary, ranked: Mapping[str, Sequence[TableRow]]) -> str:
    """Sentence on the best heads of each vector; empty if no vector comes from a ranking.

    Args:
        summary: Step6's summary.
        ranked: {source of a vector: its heads, best first}.
    """
    sources = {row["fv_source"]: ranked.get(row["fv_source"], ()) for row in summary.chosen}
    k = max((row["k"] or MOST_HEADS for row in summary.chosen), default=MOST_HEADS)
    named = [f"{source} {head_names(own[: min(MOST_HEADS, k)])}" for source, own in sources.items() if own]
    return f"The top heads (layer.head), best first: {'; '.join(named)}." if named else ""


def effects_in_words(summary: Summary) -> list[str]:
    """Sentence on the vectors that lower the right answer's log probability or do not change it measurably, if any."""
    names: dict[str, list[str]] = defaultdict(list)
    for row in summary.compared:
        own = summary.headline[row["fv"], row["eval_qid"]]
        verb = verb_of(own["delta_logprob_ci_low"], own["delta_logprob_ci_high"])
        names[verb].append(summary.name_of(row))
    told = [f"{verb} the right answer's log p in {_named(own)}" for verb, own in names.items() if verb != "raises"]
    return [f"The vector {'; it '.join(told)}."] if told else []


def _draws(summary: Summary) -> str:
    """Part of a sentence on refits, which intervals include; empty without refits."""
    n_refits = {row["n_refits"] for row in summary.headline.values()} - {0}
    return f" and include the spread of {max(n_refits)} refits to resampled fit trials" if n_refits else ""


def baselines_that_win(summary: Summary) -> list[str]:
    """One sentence for each baseline that does better than the vector in some relations, with their names."""
    told = {name: words.subject for name, words in known_words().items() if words.subject}
    lines = [line for control, subject in told.items() if (line := _where_it_wins(summary, control, subject))]
    if reached := [row["eval_qid"] for row in summary.compared if _reaches_few_shot(summary, row)]:
        lines.append(
            f"In the corrupted prompt, the vector reaches few-shot accuracy in {_named(reached)}; "
            "the prompt alone does not."
        )
    return lines


def _where_it_wins(summary: Summary, control: str, subject: str) -> str | None:
    against = {summary.name_of(row): summary.minus(row, control) for row in summary.compared}
    ahead = {name: found for name, found in against.items() if found and found.mean < 0}
    if not ahead:
        return None
    sure = [name for name, found in ahead.items() if found.ci_high is not None and found.ci_high < 0]
    clearly = f"; beyond its interval in {_named(sure)}" if sure else ""
    return f"{subject} gives a higher log p than the vector in {_named(ahead)}{clearly}."


def _reaches_few_shot(summary: Summary, row: TableRow) -> bool:
    q_id = row["eval_qid"]
    conditions = ("few_shot", NO_VECTOR), ("few_shot_corrupted", NO_VECTOR), ("few_shot_corrupted_fv", row["fv"])
    found = [summary.metrics(name, q_id, fv) for name, fv in conditions]
    if not all(found):
        return False
    shown, alone, both = (metrics[0][summary.lead(q_id)].mean for metrics in found)
    return bool(both >= shown > 0 and both > alone)


def _how_chosen(summary: Summary) -> str:
    n_dev = [row["n_dev"] for row in summary.chosen]
    shared = summary.values.eval_split == "fit"
    fit = "chose the heads and gave the vectors (data.split=shared)" if shared else ""
    given = f"Layer {summary.values.layers[0]} and alpha {summary.values.alphas[0]:g} were given, not chosen"
    if not any(n_dev):
        return f"{given}; all numbers are from n trials{f', which {fit}' if fit else ''}"
    others = f"all numbers are from n other trials, {f'but all of them {fit}' if fit else 'the test trials'}"
    trials = f"on {_range(n_dev)} dev trials per relation"
    if summary.n_cells == 1:
        return f"{given}; numbers of heads (k) were compared {trials}; {others}"
    return f"Layer and alpha were chosen among {summary.n_cells} cells {trials}; {others}"


def _columns(summary: Summary) -> str:
    unit = "the residual stream's norm" if summary.values.alpha_unit == "residual" else "the vector"
    aie = any(row["fv_kind"] == OF_AIE.name for row in summary.chosen)
    own_heads = " @aie: with the heads of the AIE, as in Todd et al." if aie else ""
    every = "condition and cell" if summary.has_held_out else "cell"
    corrupted = ""
    if summary.headline:
        corrupted = (
            " Corrupted: the same heads' vector over wrong examples. Constant, repeat: accuracy of the best constant "
            "answer, and of repeating the query. New answers: Δ log p on the n trials whose right answer is in no fit "
            "prompt."
        )
    return f"α multiplies {unit}.{corrupted}{own_heads} Results for every {every}: eval_summary.json."


def _named(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _range(numbers: Iterable[int]) -> str:
    there = sorted(set(numbers))
    return str(there[0]) if len(there) == 1 else f"{there[0]} to {there[-1]}"
