"""StepD's unit of work: one relation's prompts, run, averaged and patched; written when done, read on resume."""

import logging
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from fv.activations import RelationMeans, mean_over_prompts
from fv.artifacts import write_npz
from fv.config import Config
from fv.indirect_effect import TrialEffects, trial_effects
from fv.models.language_model import LanguageModel
from fv.snapshot import Snapshot, Trial
from fv.stability import is_stable
from fv.steps.sampling import prompt_of
from fv.sweep import Advance, Head, LastToken, Sweep, TargetScores

PROMPT_KINDS = ("clean", "corrupted", "zero_shot")
UNIT_SCHEMA = 2
"""Part of a unit's key: units of an older layout are computed again."""
log = logging.getLogger(__name__)


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
    )
    metrics = {"clean": clean.scores, "corrupted": all_corrupted.scores, "zero_shot": zero_shot.scores}
    return Unit(TrialEffects.cat(effects), means, metrics)


def write_unit(path: Path, key: str, unit: Unit) -> None:
    """Write a finished relation; `key` names trials, model and settings."""
    scores = {
        f"{kind}_{part}": getattr(scores, part).numpy()
        for kind, scores in unit.metrics.items()
        for part in ("logprob", "rank")
    }
    means = {f"mean_{field.name}": getattr(unit.means, field.name).numpy() for field in fields(RelationMeans)}
    effects = {field.name: getattr(unit.effects, field.name) for field in fields(TrialEffects)}
    write_npz(path, key=np.array(key), **effects, **means, **scores)


def read_unit(path: Path, key: str) -> Unit | None:
    """A finished relation, if it is the one that `key` names; anything else is computed again."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if str(arrays["key"]) != key:
                log.warning("%s is of other trials or settings; computing it again.", path.name)
                return None
            metrics = {
                kind: TargetScores(
                    torch.from_numpy(arrays[f"{kind}_logprob"]), torch.from_numpy(arrays[f"{kind}_rank"])
                )
                for kind in PROMPT_KINDS
            }
            means = RelationMeans(*(torch.from_numpy(arrays[f"mean_{field.name}"]) for field in fields(RelationMeans)))
            return Unit(TrialEffects(arrays["delta_logprob"], arrays["delta_p"]), means, metrics)
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged zip fails in many ways; all of them mean "not finished"
        log.warning("%s is damaged (%s); computing it again.", path.name, type(error).__name__)
        return None
