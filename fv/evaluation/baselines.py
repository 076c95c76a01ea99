"""Baselines: every way to make a vector, on the same held-out trials with the same choices (docs/methods.md).

For each relation and maker, dev trials choose one option for its effect alone, and one among those whose KL divergence
on unrelated texts stays within a budget. Both are run on the test trials.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from fv.evaluation.candidate import UNEDITED, Candidate
from fv.evaluation.cells import weaker_cells
from fv.evaluation.condition import settled
from fv.evaluation.cost import unrelated_prompts
from fv.evaluation.evaluation import Evaluation
from fv.evaluation.questions import RelationPrompts
from fv.evaluation.tables import rated
from fv.interventions.answers import score_answers, score_columns
from fv.interventions.edits import LastTokenEdit
from fv.interventions.engine import Cell, Engine
from fv.models.prompt import Prompt
from fv.progress import Advance
from fv.tables import Tables, arrays_of, stacked, tables_of
from fv.vectors.maker import FitTrials, Maker
from fv.vectors.making import Made, made
from fv.vectors.options import NO_OPTION, Fixed, Option, Options
from fv.vectors.stream import Stream
from fv.work.flow import Flow, Job, Stage, Unit
from fv.work.store import Arrays, UnitName

BEST, WITHIN_BUDGET = "best", "within_budget"
"""Choices of an option: the best on dev trials, and the best of those within the budget of harm."""
BUDGET = 0.1
"""Highest mean KL divergence on unrelated texts, in nats, by default."""
UNEDITED_UNIT = "unedited"
KEPT_BYTES = 2**30
"""Memory for keeping a relation's prompts between makers."""
AT_ONCE = 8
"""Number of options whose divergence on unrelated texts is measured at once."""


@dataclass(frozen=True)
class Baselines:
    """Inputs and settings of the comparison.

    Attributes:
        evaluation: the model, the trials, the effects and the engine.
        makers: {name: maker}.
        cells: the grid's (layer, alpha) cells.
        parts: {trial_id: `dev` or `test`}.
        texts: token ids of unrelated texts of one length.
        budget: highest mean KL divergence on these texts, in nats, of the second choice.
    """

    evaluation: Evaluation
    makers: Mapping[str, Maker]
    cells: Sequence[Cell]
    parts: Mapping[str, str]
    texts: Sequence[Sequence[int]]
    budget: float

    def flow(self, qids: Sequence[str]) -> Flow[Tables]:
        """Make every relation's vectors, choose their options, and run them on test trials.

        Returns:
            `trials`, one row per (relation, choice, condition, trial); `costs`, one row per (relation, choice, maker,
            text); and `choices`, one row per (relation, choice, maker).
        """
        relations = {q_id: self.fit_trials(q_id) for q_id in qids}
        results = yield from made(self.makers, relations)
        due = [self._relation(q_id, {name: results[q_id, name] for name in self.makers}) for q_id in qids]
        found = yield Stage("baselines", [one.job() for one in due])
        tables = [one.tables(arrays) for one, arrays in zip(due, found, strict=True)]
        return {name: pd.concat([own[name] for own in tables], ignore_index=True) for name in tables[0]}

    def fit_trials(self, q_id: str) -> FitTrials:
        """Fit trials of a relation, for makers."""
        run = self.evaluation
        if run.effects is None:
            raise ValueError("baselines need measured effects")
        weaker = run.settings.controls.weaker
        shares = sorted({1.0, *weaker})
        cells = weaker_cells(self.cells, weaker)
        return FitTrials(run.lm, run.engine, run.snapshot, q_id, run.effects, run.ranking, cells, shares, run.seed)

    def _relation(self, q_id: str, results: Mapping[str, Made]) -> "_Relation":
        run = self.evaluation
        prompts = RelationPrompts.of(run.lm, run.snapshot, q_id, self.parts)
        texts = unrelated_prompts(self.texts)
        return _Relation(run.engine, prompts, run.candidates(self.cells).stream(q_id), results, texts, self.budget)


class _Chosen(NamedTuple):
    """A chosen option with its edit, and its mean log p on dev trials relative to no edit."""

    option: Option
    edit: LastTokenEdit
    dev_effect: float


_NOTHING = _Chosen(NO_OPTION, None, 0.0)


@dataclass(frozen=True)
class _Relation:
    """A relation's prompts, and the makers' results that are run on them."""

    engine: Engine
    prompts: RelationPrompts
    stream: Stream
    results: Mapping[str, Made]
    texts: Sequence[Prompt]
    budget: float

    def job(self) -> Job:
        """Job of the relation's units: the unedited prompts, and each maker."""
        names = [UNEDITED_UNIT, *self.results]

        def compute(due: Sequence[int], advance: Advance) -> Iterator[Arrays]:
            with self.engine.keeping(KEPT_BYTES):
                for place in due:
                    yield arrays_of(self._unedited() if not place else self._evaluated(names[place]))
                    advance(1)

        units = [
            Unit(
                UnitName("baseline", self.prompts.questions.q_id, name),
                partial(self._depends_on, name),
                n_trials=1,
                cost=1.0 + len(self.results[name].options.choices if name in self.results else ()),
            )
            for name in names
        ]
        return Job(units, compute)

    def tables(self, arrays: Sequence[Arrays]) -> Tables:
        """Tables of the relation, from the arrays of its units."""
        unedited, *each = map(tables_of, arrays)
        ids, shown = [trial.trial_id for trial in self.prompts.trials], self.prompts.shown
        trials = []
        for choice in (BEST, WITHIN_BUDGET):
            scores = [own["scores"][own["scores"]["choice"] == choice] for own in each]
            every = pd.concat([unedited["scores"].assign(choice=choice), *scores], ignore_index=True)
            trials.append(rated(every, ids, shown))
        named = {name: pd.concat([own[name] for own in each], ignore_index=True) for name in ("costs", "choices")}
        return {"trials": pd.concat(trials, ignore_index=True), **named}

    def _depends_on(self, name: str) -> list[object]:
        """Everything except the model that a unit's numbers depend on."""
        prompts, norm = self.prompts, self.stream.norm
        asked = {kind: [[p.token_ids, p.answer, p.wrong] for p in own] for kind, own in prompts.test.items()}
        if name == UNEDITED_UNIT:
            return [asked, prompts.questions.ending]
        dev = [[p.token_ids, p.target] for p in prompts.dev["zero_shot"]]
        texts = [prompt.token_ids for prompt in self.texts]
        made_by = self.results[name]
        relative = [None if norm is None else norm.tolist(), self.stream.is_unit]
        ending = prompts.questions.ending
        return [asked, ending, dev, texts, made_by.options.content, made_by.n_fitted, relative, self.budget]

    def _unedited(self) -> Tables:
        """Score the unedited prompts of every kind."""
        conditions = settled([Candidate(name, kind) for name, kind in UNEDITED.items()], {}, self.stream)
        rows, blocks = [], []
        for condition, kind in zip(conditions, UNEDITED.values(), strict=True):
            scores = score_answers(self.engine, self.prompts.test[kind], [None], self.prompts.questions.ending)
            distance = self._to_few_shot([None], kind)
            rows.append({**condition.where(self.prompts.questions.q_id), "prompt": kind})
            blocks.append(_block(score_columns(scores, 0), distance[:, 0]))
        return {"scores": stacked(rows, blocks)}

    def _evaluated(self, name: str) -> Tables:
        """Choose a maker's options on dev trials and texts, and score them on the test trials."""
        result, q_id = self.results[name], self.prompts.questions.q_id
        chosen = self._chosen(result.options)
        edits = [one.edit for one in chosen.values()]
        scores = score_answers(self.engine, self.prompts.test["zero_shot"], edits, self.prompts.questions.ending)
        distances, costs = self._to_few_shot(edits, "zero_shot"), self._divergences(edits)
        rows, blocks, choices = [], [], []
        for i, (choice, one) in enumerate(chosen.items()):
            (condition,) = settled([Candidate(name, options=Fixed(one.edit))], {}, self.stream)
            where = {"choice": choice, **condition.where(q_id), **one.option._asdict()}
            rows.append({**where, "prompt": "zero_shot"})
            blocks.append(_block(score_columns(scores, i), distances[:, i]))
            about = {"n_options": len(result.options.choices), "n_fitted": result.n_fitted}
            keys = {"eval_qid": q_id, "condition": name, "choice": choice}
            choices.append({**keys, **one.option._asdict(), **about, "dev_delta_logprob": one.dev_effect})
        texts = [{"text": np.arange(len(costs)), "kl": costs[:, i]} for i in range(len(chosen))]
        keys = [{key: row[key] for key in ("eval_qid", "condition", "choice")} for row in choices]
        return {"scores": stacked(rows, blocks), "costs": stacked(keys, texts), "choices": pd.DataFrame(choices)}

    def _chosen(self, options: Options) -> dict[str, _Chosen]:
        """Choose an option by its effect on dev trials, and one of those within the budget; no edit if none helps."""
        choices = [*options.choices] or [options.default]
        edits = [options.edit(option, self.stream) for option in choices]
        dev = self.prompts.dev["zero_shot"]
        effects = np.zeros(len(choices))
        if dev:
            logprob = self.engine.target_logprobs(dev, [None, *edits]).mean(0).numpy()
            effects = logprob[1:] - logprob[0]
        # Ties to the earlier option.
        ranked = [_Chosen(choices[i], edits[i], float(effects[i])) for i in np.argsort(-effects, kind="stable")]
        helpful = [one for one in ranked if one.dev_effect > 0 or not dev]
        return {BEST: next(iter(helpful), _NOTHING), WITHIN_BUDGET: self._within_budget(helpful)}

    def _within_budget(self, ranked: Sequence[_Chosen]) -> _Chosen:
        """First of the options whose mean divergence on the texts is within the budget."""
        for start in range(0, len(ranked), AT_ONCE):
            some = ranked[start : start + AT_ONCE]
            means = self._divergences([one.edit for one in some]).mean(0)
            for one, mean in zip(some, means, strict=True):
                if mean <= self.budget:
                    return one
        return _NOTHING

    def _divergences(self, edits: Sequence[LastTokenEdit]) -> np.ndarray:
        """KL(unedited ‖ edited) of the next token after each unrelated text, (n_texts, n_edits)."""
        return self.engine.divergences(self.texts, edits).numpy()

    def _to_few_shot(self, edits: Sequence[LastTokenEdit], kind: str) -> np.ndarray:
        """KL(few-shot ‖ edited) of the next token after each test prompt, (n_trials, n_edits): d_NTP."""
        prompts = self.prompts.test
        return self.engine.divergences(prompts[kind], edits, prompts["clean"]).numpy()


def _block(columns: Mapping[str, np.ndarray], distance: np.ndarray) -> dict[str, np.ndarray]:
    return {"trial": np.arange(len(distance)), **columns, "d_ntp": distance}
