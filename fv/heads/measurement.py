"""One relation in two stages: runs of its clean and zero-shot prompts, then effects on its corrupted ones.

Between the two, a screened run estimates effects and chooses heads (`fv.heads.screening`). Each stage is units of whole
batches of trials (`Engine.batches`). What a unit gives depends on its prompts and what is patched in, and on nothing
else: neither on how the trials are cut nor on other relations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fv.config.model import ComputeConfig
from fv.config.score import ScoreConfig
from fv.data.prompts import prompt_of
from fv.data.snapshot import Snapshot
from fv.heads.activations import PromptOutputs, RelationMeans, mean_over_prompts
from fv.heads.indirect_effect import TrialEffects, effects_of_heads, places_of, query_numbers, trial_effects
from fv.heads.stability import is_stable
from fv.heads.verified import fewest_verified
from fv.interventions.engine import SCORED, Head, LastToken, ScreeningEngine, TargetScores
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.progress import Advance
from fv.work.flow import Flow, Found, Job, Unit, groups
from fv.work.store import Arrays, UnitName, array_of, digest_of_tensor

KINDS = ("clean", "zero_shot", "corrupted", "screen", "effects")
"""Kinds of units."""
PROMPT_KINDS = ("clean", "corrupted", "zero_shot")
Compute = Callable[[Sequence[Prompt], Advance], Arrays]
"""Runs the prompts of a unit."""
EFFECTS = ("delta_logprob", "delta_p")
UNIT_TRIALS = 64
"""Trials that a unit holds, unless it is said otherwise."""
CORRUPTED = (*SCORED, "head_outputs")
"""What both patched and unpatched corrupted prompts tell."""


@dataclass(frozen=True)
class Unpatched:
    """What a relation's clean and zero-shot prompts tell, before heads are patched in its corrupted ones.

    Attributes:
        q_id: the relation.
        clean_mean: what is patched in, (n_layers, n_heads, head_dim).
        clean_outputs: the head outputs that it is the mean of, (n_averaged, n_layers, n_heads, head_dim).
        means: the means of the clean and the zero-shot prompts beside it, by their names in `RelationMeans`.
        metrics: scores of the clean and the zero-shot prompts, (n_fit,).
    """

    q_id: str
    clean_mean: Tensor
    clean_outputs: Tensor
    means: dict[str, Tensor]
    metrics: dict[str, TargetScores]


@dataclass(frozen=True)
class Measured:
    """What was measured of one relation.

    Attributes:
        effects: per patched trial and head.
        means: of head outputs and residual stream.
        metrics: per prompt kind, the fit trials' scores (n_fit,).
    """

    effects: TrialEffects
    means: RelationMeans
    metrics: dict[str, TargetScores]


@dataclass(frozen=True)
class Measurement:
    """What is measured of relations, and how.

    Attributes:
        lm: the model.
        snapshot: the trials.
        heads: the heads to patch, or to choose from.
        engine: the engine.
        score: how many trials are patched, when a ranking is stable, and how heads are screened.
        seed: of the draws that tell how stable a ranking is, and of the heads that are verified by chance.
        n_mean_trials: fit trials whose prompts are averaged; None for all.
        unit_trials: about how many trials a unit holds.
        keep_mb: megabytes of prompts that are kept between their estimates and their effects.
    """

    lm: LanguageModel
    snapshot: Snapshot
    heads: Sequence[Head]
    engine: ScreeningEngine
    score: ScoreConfig
    seed: int
    n_mean_trials: int | None = None
    unit_trials: int = UNIT_TRIALS
    keep_mb: int = ComputeConfig.keep_mb

    def relation(self, q_id: str) -> Flow[Measured]:
        """Measure one relation with all heads patched."""
        unpatched = yield from self.unpatched(q_id)
        return (yield from self.patched(unpatched))

    def unpatched(self, q_id: str) -> Flow[Unpatched]:
        """Run its clean and zero-shot prompts."""
        jobs = [self._jobs("clean", q_id, self._run_clean), self._jobs("zero_shot", q_id, self._run_zero_shot)]
        clean, zero_shot = map(_joined, (yield from groups("prompts", jobs)))
        averaged = slice(self.n_mean_trials)
        outputs, *others = (
            torch.from_numpy(array)
            for array in (
                clean["head_outputs"][averaged],
                clean["residual"][averaged],
                zero_shot["residual_norm"],
                zero_shot["head_outputs"][averaged],
                zero_shot["residual"][averaged],
            )
        )
        residual, norm, zero_shot_heads, zero_shot_residual = map(mean_over_prompts, others)
        means = {
            "residual": residual,
            "residual_norm": norm.float(),
            "zero_shot": zero_shot_heads,
            "zero_shot_residual": zero_shot_residual,
        }
        metrics = {"clean": _scores(clean), "zero_shot": _scores(zero_shot)}
        return Unpatched(q_id, mean_over_prompts(outputs), outputs, means, metrics)

    def estimated(self, unpatched: Unpatched) -> Flow[np.ndarray]:
        """Estimate the effects of every head on the trials that may be patched, (n_trials, n_layers, n_heads)."""
        score, mean = self.score, unpatched.clean_mean

        def run(prompts: Sequence[Prompt], advance: Advance) -> Arrays:
            batches = [prompts[part] for part in self.engine.batches(prompts, rows_each)]
            method, points = score.screen.value, score.screen_points
            found = [self.engine.head_scores(batch, mean, method, points, advance) for batch in batches]
            return {"score": array_of(torch.cat(found))}

        # The batches of the sweep that follows, unless it has far more heads: what was kept is found by its batch.
        rows_each = 1 + fewest_verified(len(self.heads), score.n_verify, score.verify_random)
        how = f"{score.screen.value} {score.points}"
        jobs = self._jobs(
            "screen", unpatched.q_id, run, slice(score.n_trials), rows_each, lambda: f"{how} {digest_of_tensor(mean)}"
        )
        (scores,) = yield from groups("screen", [jobs])
        return _joined(scores)["score"]

    def patched(self, unpatched: Unpatched) -> Flow[Measured]:
        """Patch the heads.

        Where `score` is adaptive, trials are patched `adaptive_step` at a time until the top-k heads are stable.
        """
        score, q_id = self.score, unpatched.q_id
        n_trials = len(self.snapshot.of(q_id, "fit"))
        most = min(score.n_trials or n_trials, n_trials)
        step = score.adaptive_step if score.adaptive else most
        patched: list[Arrays] = []
        unpatched_arrays: list[Arrays] = []
        done = 0
        while done < most and not (patched and is_stable(self._effects(q_id, _joined([patched])), score, self.seed)):
            stop = min(done + step, most)
            ends = stop == most  # what is not patched is run beside the last trials that are
            rest = self._corrupted_jobs(q_id, slice(stop, n_trials)) if ends else []
            effects, others = yield from groups("effects", [self._patched_jobs(unpatched, slice(done, stop)), rest])
            patched.append(_joined(effects))
            unpatched_arrays += [_joined(others)] if others else []
            done = stop
        if done < most:
            (others,) = yield from groups("effects", [self._corrupted_jobs(q_id, slice(done, n_trials))])
            unpatched_arrays.append(_joined(others))
        every = [{key: part[key] for key in CORRUPTED} for part in (*patched, *unpatched_arrays)]
        corrupted = _joined([every])
        outputs = torch.from_numpy(corrupted["head_outputs"][: self.n_mean_trials])
        prompts = PromptOutputs(unpatched.clean_outputs, outputs)
        means = RelationMeans(unpatched.clean_mean, mean_over_prompts(outputs), **unpatched.means, prompts=prompts)
        of_kind = {**unpatched.metrics, "corrupted": _scores(corrupted)}
        metrics = {kind: of_kind[kind] for kind in PROMPT_KINDS}
        return Measured(self._effects(q_id, _joined([patched])), means, metrics)

    def patched_more(self, unpatched: Unpatched, before: Measured) -> Flow[Measured]:
        """Measure the heads at hand, too, on the trials that other heads were patched in."""
        jobs = self._patched_jobs(unpatched, slice(before.effects.n_trials))
        (found,) = yield from groups("effects", [jobs])
        more = self._effects(unpatched.q_id, _joined(found))
        return replace(before, effects=before.effects.with_heads_of(more))

    def _patched_jobs(self, unpatched: Unpatched, part: slice) -> list[Job]:
        """Effects of the heads on some corrupted prompts, and what these tell unedited."""
        mean, heads = unpatched.clean_mean, [tuple(head) for head in self.heads]
        # A row of a patched head runs through the blocks above it: half of them, on average.
        return self._jobs(
            "effects",
            unpatched.q_id,
            partial(self._run_patched, mean),
            part,
            1 + len(heads),
            lambda: f"{digest_of_tensor(mean)} {heads}",
            len(heads) / 2,
        )

    def _corrupted_jobs(self, q_id: str, part: slice) -> list[Job]:
        return self._jobs("corrupted", q_id, self._run_corrupted, part)

    def _jobs(
        self,
        kind: str,
        q_id: str,
        compute: Compute,
        part: slice = slice(None),
        rows_each: int = 1,
        inputs: Callable[[], Any] = str,
        rows: float = 0.0,
    ) -> list[Job]:
        """The units of a kind of prompts, each of whole batches.

        Args:
            kind: what is run, one of `KINDS`.
            q_id: the relation.
            compute: runs the prompts of a unit.
            part: which of the relation's fit trials.
            rows_each: rows of a prompt that are in memory at once.
            inputs: gives what else a unit depends on.
            rows: rows beside it that run through the model with a prompt.
        """
        prompt_kind = kind if kind in ("clean", "zero_shot") else "corrupted"
        trials = self.snapshot.of(q_id, "fit")[part]
        prompts = [prompt_of(self.lm, self.snapshot, trial, prompt_kind) for trial in trials]
        found: list[Job] = []
        for own in units_of(self.engine.batches(prompts, rows_each) if prompts else [], self.unit_trials):
            these = prompts[own]
            lengths = tuple(len(prompt.token_ids) for prompt in these)
            unit = Unit(
                UnitName(kind, q_id),
                partial(_made_from, inputs, these),
                len(these),
                sum(lengths) + rows * len(these),
                (kind, lengths),
            )
            found.append(Job.of(unit, partial(compute, these)))
        return found

    def _run_clean(self, prompts: Sequence[Prompt], advance: Advance) -> Arrays:
        run = self.engine.last_token(prompts)
        advance(len(prompts))
        return _score_arrays(run) | {"head_outputs": array_of(run.head_outputs), "residual": array_of(run.residual)}

    def _run_zero_shot(self, prompts: Sequence[Prompt], advance: Advance) -> Arrays:
        run = self.engine.last_token(prompts)
        advance(len(prompts))
        outputs = {"head_outputs": array_of(run.head_outputs), "residual": array_of(run.residual)}
        return _score_arrays(run) | outputs | {"residual_norm": array_of(run.residual.double().norm(dim=-1))}

    def _run_corrupted(self, prompts: Sequence[Prompt], advance: Advance) -> Arrays:
        run = self.engine.last_token(prompts)
        advance(len(prompts))
        return _score_arrays(run) | {"head_outputs": array_of(run.head_outputs)}

    def _run_patched(self, clean_mean: Tensor, prompts: Sequence[Prompt], advance: Advance) -> Arrays:
        layers, heads = places_of(self.heads)
        effects, unedited = trial_effects(self.engine, prompts, clean_mean, self.heads, advance)
        own = {name: getattr(effects, name)[:, layers, heads] for name in EFFECTS}
        return _score_arrays(unedited) | {"head_outputs": array_of(unedited.head_outputs)} | own

    def _effects(self, q_id: str, arrays: Arrays) -> TrialEffects:
        """Effects on the whole grid of heads from those of the swept ones, (n_trials, n_swept)."""
        logprob, p = (arrays[name] for name in EFFECTS)
        queries = query_numbers(self.snapshot.of(q_id, "fit", len(p)))
        return effects_of_heads(logprob, p, self.heads, (self.lm.n_layers, self.lm.n_heads), queries)


def units_of(batches: Sequence[slice], size: int) -> list[slice]:
    """Whole batches, one after the other, joined to units of `size` trials or just above."""
    found: list[slice] = []
    for batch in batches:
        if found and found[-1].stop - found[-1].start < size:
            found[-1] = slice(found[-1].start, batch.stop)
        else:
            found.append(batch)
    return found


def _made_from(inputs: Callable[[], Any], prompts: Sequence[Prompt]) -> list[Any]:
    return [inputs(), [[p.token_ids, p.target] for p in prompts]]


def _joined(jobs: Found) -> Arrays:
    """The arrays of all units, one behind the other."""
    parts = [arrays for job in jobs for arrays in job]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _score_arrays(run: LastToken) -> Arrays:
    return {name: getattr(run.scores, name).numpy() for name in SCORED}


def _scores(arrays: Arrays) -> TargetScores:
    return TargetScores(**{name: torch.from_numpy(arrays[name]) for name in SCORED})
