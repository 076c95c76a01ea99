"""List of trials on the page: prompts as the model saw them, its answers, and log probabilities, dev and test."""

from typing import NamedTuple

from fv.data.prompt_kinds import CLEAN, CORRUPTED, ZERO_SHOT
from fv.data.trial import Trial
from fv.evaluation.summary import records
from fv.evaluation.tables import NO_VECTOR
from fv.report.limits import LIMITS, Limits
from fv.report.page_tables import TableCell
from fv.report.results import RunResults
from fv.report.words import number
from fv.tables import TableRow

PROMPT_NAMES = {CLEAN: "right examples", CORRUPTED: "wrong examples", ZERO_SHOT: "no examples"}
"""{kind of prompt: its name on the page}."""
ANSWERS = {"zero_shot": "without", "fv": "with vector", "few_shot": "with examples"}
"""{condition: name of its answers on the page}."""


class ShownTrial(NamedTuple):
    """Held-out trial on the page.

    Attributes:
        q_id: the relation.
        part: dev, test, or empty if nothing was injected.
        query: the query's input.
        answer: the right output.
        prompts: {name: the prompt's text}.
        answers: {name from `ANSWERS`: the model's answer}, for test trials.
        logprobs: log p of the right answer's first token, in the order of `ANSWERS`; in brackets for dev trials.
    """

    q_id: str
    part: str
    query: str
    answer: str
    prompts: dict[str, str]
    answers: dict[str, str]
    logprobs: list[TableCell]


class TrialList(NamedTuple):
    """Shown trials, and the number of all trials."""

    trials: list[ShownTrial]
    n_all: int
    has_answers: bool


def trial_list(results: RunResults, limits: Limits = LIMITS) -> TrialList:
    """Held-out trials of all relations, or as many of each as the page has room for."""
    snapshot = results.run.trials.snapshot
    trials = [trial for q_id in snapshot.qids for trial in snapshot.evaluated(q_id)]
    most = max(1, limits.trials // max(1, len(results.q_ids)))
    kept = [trial for q_id in results.q_ids for trial in [t for t in trials if t.q_id == q_id][:most]]
    grid, answers = _grid(results), _answers(results)
    shown = [
        _shown(trial, grid.get(trial.trial_id, {}), answers.get(trial.trial_id, {}), limits.letters)
        for trial in kept[: limits.trials]
    ]
    return TrialList(shown, len(trials), bool(answers))


def cut(text: str, most: int) -> str:
    """Cut a text after `most` letters, and add a note."""
    return text if len(text) <= most else f"{text[:most]}… [cut: {len(text):,} letters]"


def _grid(results: RunResults) -> dict[str, TableRow]:
    """{trial: its row of the grid, at the chosen cell of its relation's own vector}."""
    rows = results.table("eval_trials")
    if rows.empty or results.own.empty:
        return {}
    cells = results.own[["fv", "eval_qid", "layer", "alpha"]]
    return {row["trial_id"]: row for row in records(rows.merge(cells, on=list(cells)))}


def _answers(results: RunResults) -> dict[str, dict[str, TableRow]]:
    """{trial: {condition: its row}}, for test trials."""
    rows = results.table("held_out_trials")
    if rows.empty:
        return {}
    own = results.of_own(rows[rows["condition"].isin(ANSWERS) & (rows["draw"] == 0)], unpaired=True)
    own = own[(own["condition"] == "fv") | (own["fv"] == NO_VECTOR)]
    found: dict[str, dict[str, TableRow]] = {}
    for row in records(own):
        found.setdefault(row["trial_id"], {})[row["condition"]] = row
    return found


def _shown(trial: Trial, grid: TableRow, answers: dict[str, TableRow], letters: int) -> ShownTrial:
    prompts = {PROMPT_NAMES.get(kind, kind): cut(text, letters) for kind, text in trial.prompts.items()}
    of_grid = {"zero_shot": grid.get("baseline_logprob"), "fv": grid.get("injected_logprob")}
    logprobs = [_logprob(answers.get(name, {}).get("logprob", of_grid.get(name))) for name in ANSWERS]
    said = {words: cut(str(answers[name]["text"]), letters) for name, words in ANSWERS.items() if name in answers}
    query, answer = (cut(text, letters) for text in (trial.query.exA, trial.query.exB))
    return ShownTrial(trial.q_id, grid.get("part", ""), query, answer, prompts, said, logprobs)


def _logprob(value: float | None) -> TableCell:
    return TableCell("–") if value is None else TableCell(number(value), repr(float(value)))
