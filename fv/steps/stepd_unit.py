"""StepD's unit of work: one relation's prompts, run, averaged and patched; written when done, read on resume."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch

from fv.activations import RelationMeans, mean_over_prompts
from fv.config import Config
from fv.indirect_effect import TrialEffects, trial_effects
from fv.models.language_model import LanguageModel
from fv.snapshot import Snapshot, Trial
from fv.stability import is_stable
from fv.steps.sampling import prompt_of
from fv.sweep import Advance, Head, LastToken, Sweep, TargetScores

PROMPT_KINDS = ("clean", "corrupted", "zero_shot")
UNIT_SCHEMA = 4
"""Part of a unit's key: units of an older layout are computed again."""


@dataclass(frozen=True)
class Unit:
    """What StepD computes for one relation.

    Attributes:
        effects: per patched trial and head.
        means: of head outputs and residual stream.
        metrics: per prompt kind, the fit trials' scores (n_fit,).
    """

    effects: TrialEffects
    means: RelationMeans
    metrics: dict[str, TargetScores]


def compute_unit(
    config: Config,
    lm: LanguageModel,
    snapshot: Snapshot,
    trials: list[Trial],
    heads: list[Head],
    sweep: Sweep,
    advance: Advance,
) -> Unit:
    """Run one relation's fit trials.

    With `score.adaptive`, trials are patched `score.adaptive_step` at a time until the top-k heads are stable.
    """
    prompts = {
        kind: [prompt_of(lm, snapshot, getattr(t, f"{kind}_prompt_str"), t.target_first_token_id) for t in trials]
        for kind in PROMPT_KINDS
    }
    clean = sweep.last_token(prompts["clean"])
    zero_shot = sweep.last_token(prompts["zero_shot"])
    averaged = slice(config.data.n_mean_trials)
    clean_mean = mean_over_prompts(clean.head_outputs[averaged])
    most = config.score.n_trials or len(trials)
    step = config.score.adaptive_step if config.score.adaptive else most
    effects: list[TrialEffects] = []
    corrupted: list[LastToken] = []
    done = 0
    while done < most and not (effects and is_stable(TrialEffects.cat(effects), config.score, config.seed)):
        next_ones = prompts["corrupted"][done : min(done + step, most)]
        found, unedited = trial_effects(sweep, next_ones, clean_mean, heads, advance)
        effects.append(found)
        corrupted.append(unedited)
        done += found.n_trials
    if rest := prompts["corrupted"][done:]:
        corrupted.append(sweep.last_token(rest))
        advance(most - done)
    all_corrupted = LastToken.cat(corrupted)
    means = RelationMeans(
        clean_mean,
        mean_over_prompts(all_corrupted.head_outputs[averaged]),
        mean_over_prompts(clean.residual[averaged]),
        mean_over_prompts(zero_shot.residual.double().norm(dim=-1)).float(),
    )
    metrics = {"clean": clean.scores, "corrupted": all_corrupted.scores, "zero_shot": zero_shot.scores}
    return Unit(TrialEffects.cat(effects), means, metrics)


def arrays_of_unit(unit: Unit) -> dict[str, np.ndarray]:
    """A finished relation as arrays for a file."""
    scores = {
        f"{kind}_{part}": getattr(scores, part).numpy()
        for kind, scores in unit.metrics.items()
        for part in ("logprob", "rank")
    }
    means = {f"mean_{field.name}": getattr(unit.means, field.name).numpy() for field in fields(RelationMeans)}
    return {field.name: getattr(unit.effects, field.name) for field in fields(TrialEffects)} | means | scores


def unit_of_arrays(arrays: Mapping[str, np.ndarray]) -> Unit:
    """The relation that `arrays_of_unit` took apart."""
    scores = {
        kind: TargetScores(torch.from_numpy(arrays[f"{kind}_logprob"]), torch.from_numpy(arrays[f"{kind}_rank"]))
        for kind in PROMPT_KINDS
    }
    means = RelationMeans(*(torch.from_numpy(arrays[f"mean_{field.name}"]) for field in fields(RelationMeans)))
    return Unit(TrialEffects(*(arrays[field.name] for field in fields(TrialEffects))), means, scores)
