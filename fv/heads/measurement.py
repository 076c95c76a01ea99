"""Measurement of one relation in two stages: its clean and zero-shot prompts, then effects on its corrupted prompts.

Between the two stages, a screened run estimates effects and chooses heads (`fv.heads.screening`). Each stage consists
of units, and each unit of whole batches of trials (`Engine.batches`). The results of a unit depend only on its prompts
and on the values patched in, not on how trials are divided into units, nor on other relations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fv.config.model import ComputeConfig
from fv.config.score import ScoreConfig
from fv.data.prompt_kinds import CLEAN, CORRUPTED, PROMPT_KINDS, ZERO_SHOT
from fv.data.prompts import prompt_of
from fv.data.snapshot import Snapshot
from fv.heads.activations import PromptOutputs, RelationMeans, mean_over_prompts
from fv.heads.indirect_effect import TrialEffects, effects_of_heads, places_of, query_numbers, trial_effects
from fv.heads.stability import is_stable
from fv.heads.verification import fewest_verified
from fv.interventions.engine import SCORED, Head, LastToken, ScreeningEngine, TargetScores
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.progress import Advance
from fv.work.flow import Flow, Found, Job, Unit, groups
from fv.work.store import Arrays, UnitName, array_of, digest_of_tensor

KINDS = (CLEAN, ZERO_SHOT, CORRUPTED, "screen", "effects")
"""Kinds of units, by the prompts that they run."""
Compute = Callable[[Sequence[Prompt], Advance], Arrays]
"""Function that runs the prompts of a unit and returns their results."""
EFFECTS = ("delta_logprob", "delta_p")
UNIT_TRIALS = 64
"""Trials per unit, by default."""
UNEDITED = (*SCORED, "head_outputs")
"""Names of the results of unedited corrupted prompts."""


class UnpatchedMeans(NamedTuple):
    """Means of the clean and zero-shot prompts besides `clean_mean`, as in `RelationMeans` and in its order."""

    residual: Tensor
    residual_norm: Tensor
    zero_shot: Tensor
    zero_shot_residual: Tensor


@dataclass(frozen=True)
class Unpatched:
    """Results of a relation's clean and zero-shot prompts, before heads are patched in its corrupted prompts.

    Attributes:
        q_id: the relation.
        clean_mean: mean head outputs, which are patched in, (n_layers, n_heads, head_dim).
        clean_outputs: the head outputs that `clean_mean` averages, (n_averaged, n_layers, n_heads, head_dim).
        means: all other means of the clean and zero-shot prompts.
        metrics: scores of the clean and the zero-shot prompts, (n_fit,).
    """

    q_id: str
    clean_mean: Tensor
    clean_outputs: Tensor
    means: UnpatchedMeans
    metrics: dict[str, TargetScores]


@dataclass(frozen=True)
class Measured:
    """Results of one relation.

    Attributes:
        effects: indirect effects per patched trial and head.
        means: means of head outputs and residual stream.
        metrics: {kind of prompt: scores of the fit trials, (n_fit,)}.
    """

    effects: TrialEffects
    means: RelationMeans
    metrics: dict[str, TargetScores]


@dataclass(frozen=True)
class Measurement:
    """Measurement of indirect effects: the model, the trials, and all settings.

    Attributes:
        lm: the model.
        snapshot: the trials.
        heads: the heads to patch, or the heads that a screen chooses from.
        engine: the engine.
        score: number of patched trials, criterion of a stable ranking, and settings of the screen.
        seed: seed of the resamples that test a ranking's stability, and of the randomly verified heads.
        n_mean_trials: number of fit trials whose prompts are averaged; None for all.
        unit_trials: approximate number of trials per unit.
        keep_mb: megabytes for keeping prompts between the estimates and the effects.
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
        """Run a relation's clean and zero-shot prompts."""
        jobs = [self._jobs(CLEAN, q_id, self._run_clean), self._jobs(ZERO_SHOT, q_id, self._run_zero_shot)]
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
        means = UnpatchedMeans(residual, norm.float(), zero_shot_heads, zero_shot_residual)
        metrics = {CLEAN: _scores(clean), ZERO_SHOT: _scores(zero_shot)}
        return Unpatched(q_id, mean_over_prompts(outputs), outputs, means, metrics)

    def estimated(self, unpatched: Unpatched) -> Flow[np.ndarray]:
        """Estimate every head's effects on the trials that may be patched, (n_trials, n_layers, n_heads)."""
        score, mean = self.score, unpatched.clean_mean

        def run(prompts: Sequence[Prompt], advance: Advance) -> Arrays:
            batches = [prompts[part] for part in self.engine.batches(prompts, rows_each)]
            method, points = score.screen.value, score.screen_points
            found = [self.engine.head_scores(batch, mean, method, points, advance) for batch in batches]
            return {"score": array_of(torch.cat(found))}

        # The same batches as in the sweep that follows (unless far more heads are verified), since kept prompts are
        # looked up by batch.
        rows_each = 1 + fewest_verified(len(self.heads), score.n_verify, score.verify_random)
        how = f"{score.screen.value} {score.points}"
        jobs = self._jobs(
            "screen", unpatched.q_id, run, slice(score.n_trials), rows_each, lambda: f"{how} {digest_of_tensor(mean)}"
        )
        (scores,) = yield from groups("screen", [jobs])
        return _joined(scores)["score"]

    def patched(self, unpatched: Unpatched) -> Flow[Measured]:
        """Patch the heads in the corrupted prompts.

        If `score` is adaptive, `adaptive_step` trials are patched at a time until the top-k heads are stable.
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
            ends = stop == most  # the last stage also runs the prompts that are not patched
            rest = self._corrupted_jobs(q_id, slice(stop, n_trials)) if ends else []
            effects, others = yield from groups("effects", [self._patched_jobs(unpatched, slice(done, stop)), rest])
            patched.append(_joined(effects))
            unpatched_arrays += [_joined(others)] if others else []
            done = stop
        if done < most:
            (others,) = yield from groups("effects", [self._corrupted_jobs(q_id, slice(done, n_trials))])
            unpatched_arrays.append(_joined(others))
        every = [{key: part[key] for key in UNEDITED} for part in (*patched, *unpatched_arrays)]
        corrupted = _joined([every])
        outputs = torch.from_numpy(corrupted["head_outputs"][: self.n_mean_trials])
        prompts = PromptOutputs(unpatched.clean_outputs, outputs)
        means = RelationMeans(unpatched.clean_mean, mean_over_prompts(outputs), *unpatched.means, prompts)
        of_kind = {**unpatched.metrics, CORRUPTED: _scores(corrupted)}
        metrics = {kind: of_kind[kind] for kind in PROMPT_KINDS}
        return Measured(self._effects(q_id, _joined([patched])), means, metrics)

    def patched_more(self, unpatched: Unpatched, before: Measured) -> Flow[Measured]:
        """Add the effects of `self.heads` to earlier effects of other heads, on the same trials."""
        jobs = self._patched_jobs(unpatched, slice(before.effects.n_trials))
        (found,) = yield from groups("effects", [jobs])
        more = self._effects(unpatched.q_id, _joined(found))
        return replace(before, effects=before.effects.with_heads_of(more))

    def _patched_jobs(self, unpatched: Unpatched, part: slice) -> list[Job]:
        """Jobs that patch the heads in some corrupted prompts, and also run these prompts unedited."""
        mean, heads = unpatched.clean_mean, [tuple(head) for head in self.heads]
        # The row of a patched head runs only through the blocks from its layer on: half of them, on average.
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
        return self._jobs(CORRUPTED, q_id, self._run_corrupted, part)

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
        """Jobs, one per unit, that run one kind of prompts.

        Args:
            kind: kind of unit, one of `KINDS`.
            q_id: the relation.
            compute: runs the prompts of a unit.
            part: slice of the relation's fit trials.
            rows_each: rows per prompt that are in memory at once.
            inputs: returns everything else that a unit's results depend on.
            rows: further rows per prompt that run through the model.
        """
        prompt_kind = kind if kind in PROMPT_KINDS else CORRUPTED
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
        """Spread the effects of the swept heads, (n_trials, n_swept), over all heads of the model."""
        logprob, p = (arrays[name] for name in EFFECTS)
        queries = query_numbers(self.snapshot.of(q_id, "fit", len(p)))
        return effects_of_heads(logprob, p, self.heads, (self.lm.n_layers, self.lm.n_heads), queries)


def units_of(batches: Sequence[slice], size: int) -> list[slice]:
    """Join consecutive whole batches into units of `size` trials, or slightly more."""
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
    """Concatenate the arrays of all units."""
    parts = [arrays for job in jobs for arrays in job]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _score_arrays(run: LastToken) -> Arrays:
    return {name: getattr(run.scores, name).numpy() for name in SCORED}


def _scores(arrays: Arrays) -> TargetScores:
    return TargetScores(**{name: torch.from_numpy(arrays[name]) for name in SCORED})
