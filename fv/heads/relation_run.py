"""One relation in two stages: runs of its clean and zero-shot prompts, then effects on its corrupted ones.

Each stage is units of whole batches of trials (`Engine.batches`). A unit depends on its prompts and what is patched in,
and on nothing else: neither on how the trials are cut into units nor on other relations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fv.config.model import ComputeConfig
from fv.config.score import ScoreConfig
from fv.data.sampling import prompt_of
from fv.data.snapshot import Snapshot, Trial
from fv.heads.activations import RelationMeans, mean_over_prompts
from fv.heads.indirect_effect import TrialEffects, trial_effects
from fv.heads.stability import is_stable
from fv.interventions.engine import Advance, Engine, Head, LastToken, TargetScores, ignore_progress
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.units import NO_UNITS, Arrays, UnitStore, array_of, digest_of_tensor

PROMPT_KINDS = ("clean", "corrupted", "zero_shot")


@dataclass(frozen=True)
class Unit:
    """What was measured of one relation.

    Attributes:
        effects: per patched trial and head.
        means: of head outputs and residual stream.
        metrics: per prompt kind, the fit trials' scores (n_fit,).
        n_computed: trials that had to be run; the rest was found finished.
    """

    effects: TrialEffects
    means: RelationMeans
    metrics: dict[str, TargetScores]
    n_computed: int


@dataclass
class RelationRuns:
    """Computes relations from units, or finds them.

    Attributes:
        lm: the model.
        snapshot: the trials.
        heads: the heads to patch.
        engine: the engine.
        score: how many trials are patched, and when a ranking is stable.
        seed: of the draws that tell how stable it is.
        n_mean_trials: fit trials whose prompts are averaged; None for all.
        unit_trials: about how many trials a unit holds.
        store: finished units, to read and to add to.
        advance: progress callback, called with trials patched.
    """

    lm: LanguageModel
    snapshot: Snapshot
    heads: Sequence[Head]
    engine: Engine
    score: ScoreConfig
    seed: int
    n_mean_trials: int | None = None
    unit_trials: int = ComputeConfig.unit_trials
    store: UnitStore = NO_UNITS
    advance: Advance = ignore_progress

    def relation(self, q_id: str) -> Unit:
        """Run one relation's fit trials.

        Where `score` is adaptive, trials are patched `adaptive_step` at a time until the top-k heads are stable.
        """
        score, averaged = self.score, slice(self.n_mean_trials)
        trials = self.snapshot.of(q_id, "fit")
        prompts = {kind: self._prompts(trials, kind) for kind in PROMPT_KINDS}
        computed: list[int] = []

        def units(stage: str, of: Sequence[Prompt], compute: Compute, rows_each: int = 1, inputs: str = "") -> Arrays:
            return self._units(f"{stage}-{q_id}", of, compute, rows_each, inputs, computed)

        clean = units("clean", prompts["clean"], self._run_clean)
        zero_shot = units("zero_shot", prompts["zero_shot"], self._run_zero_shot)
        clean_mean = mean_over_prompts(torch.from_numpy(clean["head_outputs"][averaged]))

        most = score.n_trials or len(trials)
        step = score.adaptive_step if score.adaptive else most
        patch = self._patching(clean_mean)
        inputs = f"{digest_of_tensor(clean_mean)} {[tuple(head) for head in self.heads]}"
        patched: list[Arrays] = []
        done = 0
        while done < most and not (patched and is_stable(self._effects(_joined(patched)), score, self.seed)):
            here = prompts["corrupted"][done : min(done + step, most)]
            patched.append(units("effects", here, patch, 1 + len(self.heads), inputs))
            done += len(here)
        rest = prompts["corrupted"][done:]
        unpatched = [units("corrupted", rest, self._run_corrupted)] if rest else []
        self.advance(len(rest[: most - done]))
        corrupted = _joined([{key: part[key] for key in CORRUPTED} for part in (*patched, *unpatched)])

        head_outputs = torch.from_numpy(corrupted["head_outputs"])
        means = RelationMeans(
            clean_mean,
            mean_over_prompts(head_outputs[averaged]),
            mean_over_prompts(torch.from_numpy(clean["residual"][averaged])),
            mean_over_prompts(torch.from_numpy(zero_shot["residual_norm"])).float(),
        )
        metrics = {"clean": _scores(clean), "corrupted": _scores(corrupted), "zero_shot": _scores(zero_shot)}
        return Unit(self._effects(_joined(patched)), means, metrics, sum(computed))

    def _prompts(self, trials: Sequence[Trial], kind: str) -> list[Prompt]:
        return [prompt_of(self.lm, self.snapshot, trial, kind) for trial in trials]

    def _units(
        self,
        name: str,
        prompts: Sequence[Prompt],
        compute: "Compute",
        rows_each: int,
        inputs: str,
        computed: list[int],
    ) -> Arrays:
        """What `compute` gives for all prompts, unit by unit; `computed` collects how many had to be run."""
        found = []
        for part in units_of(self.engine.batches(prompts, rows_each), self.unit_trials):
            made_from = [inputs, [[p.token_ids, p.target] for p in prompts[part]]]
            if (arrays := self.store.find(name, made_from)) is None:
                arrays = compute(prompts[part])
                self.store.keep(name, made_from, arrays)
                computed.append(part.stop - part.start)
            elif rows_each > 1:
                self.advance(part.stop - part.start)
            found.append(arrays)
        return _joined(found)

    def _run_clean(self, prompts: Sequence[Prompt]) -> Arrays:
        run = self.engine.last_token(prompts)
        return _score_arrays(run) | {"head_outputs": array_of(run.head_outputs), "residual": array_of(run.residual)}

    def _run_zero_shot(self, prompts: Sequence[Prompt]) -> Arrays:
        run = self.engine.last_token(prompts)
        return _score_arrays(run) | {"residual_norm": array_of(run.residual.double().norm(dim=-1))}

    def _run_corrupted(self, prompts: Sequence[Prompt]) -> Arrays:
        run = self.engine.last_token(prompts)
        return _score_arrays(run) | {"head_outputs": array_of(run.head_outputs)}

    def _patching(self, clean_mean: Tensor) -> "Compute":
        layers, heads = np.array(self.heads).T

        def run(prompts: Sequence[Prompt]) -> Arrays:
            effects, unedited = trial_effects(self.engine, prompts, clean_mean, self.heads, self.advance)
            own = {name: getattr(effects, name)[:, layers, heads] for name in EFFECTS}
            return _score_arrays(unedited) | {"head_outputs": array_of(unedited.head_outputs)} | own

        return run

    def _effects(self, arrays: Arrays) -> TrialEffects:
        """Effects on the whole grid of heads from those of the swept ones, (n_trials, n_swept)."""
        layers, heads = np.array(self.heads).T
        whole = []
        for name in EFFECTS:
            effects = np.full((len(arrays[name]), self.lm.n_layers, self.lm.n_heads), np.nan)
            effects[:, layers, heads] = arrays[name]
            whole.append(effects)
        return TrialEffects(*whole)


Compute = Callable[[Sequence[Prompt]], Arrays]
"""Runs the prompts of a unit."""
EFFECTS = ("delta_logprob", "delta_p")
CORRUPTED = ("logprob", "rank", "head_outputs")
"""What both patched and unpatched corrupted prompts tell."""


def units_of(batches: Sequence[slice], size: int) -> list[slice]:
    """Whole batches, one after the other, joined to units of `size` trials or just above."""
    found: list[slice] = []
    for batch in batches:
        if found and found[-1].stop - found[-1].start < size:
            found[-1] = slice(found[-1].start, batch.stop)
        else:
            found.append(batch)
    return found


def _joined(parts: Sequence[Arrays]) -> Arrays:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0] if key != "machine"}


def _score_arrays(run: LastToken) -> Arrays:
    return {"logprob": run.scores.logprob.numpy(), "rank": run.scores.rank.numpy()}


def _scores(arrays: Arrays) -> TargetScores:
    return TargetScores(torch.from_numpy(arrays["logprob"]), torch.from_numpy(arrays["rank"]))
