"""Shapes of library calls, checked in every test: the one table of them, and how it is put in force.

Sizes of one name are equal within a call; one in braces is computed from the call's arguments. Left out are arguments
that the library itself refuses with words of its own.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from beartype.door import die_if_unbearable
from jaxtyping import Bool, Float, Float64, Int, Int64, jaxtyped
from torch import Tensor

from fv.heads.activations import PromptOutputs, RelationMeans, mean_of_means, mean_over_prompts, weighted_mean
from fv.heads.indirect_effect import TrialEffects, trial_effects
from fv.heads.stability import effects_of, gap_at, inclusion, mean_scores, other_half_means, ranked
from fv.interventions.engine import TargetScores
from fv.interventions.expanded_batch import ExpandedBatchEngine
from fv.interventions.gradient_scores import head_scores
from fv.interventions.metrics import cosine, kl_divergence, logit_difference, rank_of, target_logprob
from fv.interventions.naive import NaiveEngine
from fv.interventions.readout import target_logprobs, target_scores
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.models.language_model import LanguageModel
from fv.statistics.intervals import Estimates, adjusted_wald, clopper_pearson, estimate_means
from fv.vectors.controls import mean_vector, norm_matched
from fv.vectors.function_vector import vector_by_layer, vector_of_heads
from fv.vectors.values import norm_of, strength

RETURNS = "return"
HEADS = "layers heads head_dim"
EFFECTS = Sequence[Float[np.ndarray, "_ heads"]]
LAST_TOKEN = tuple[
    TargetScores,
    Float[Tensor, "{len(prompts)} {self.lm.n_layers} {self.lm.n_heads} {self.lm.head_dim}"],
    Float[Tensor, "{len(prompts)} {self.lm.n_layers} {self.lm.d_model}"],
]
EACH_HEAD = Float64[Tensor, "{len(prompts)} {len(heads)}"]
PATCH_HEADS = {"head_values": Float[Tensor, HEADS], RETURNS: tuple[LAST_TOKEN, EACH_HEAD, EACH_HEAD]}

SHAPES: dict[Callable[..., Any], dict[str, Any]] = {
    # Metrics
    target_logprob: {
        "logits": Float[Tensor, "*rows vocabulary"],
        "target": Int[Tensor, "*rows"],
        RETURNS: Float[Tensor, "*rows"],
    },
    rank_of: {
        "logits": Float[Tensor, "*rows vocabulary"],
        "target": Int[Tensor, "*rows"],
        RETURNS: Int64[Tensor, "*rows"],
    },
    logit_difference: {"logits": Float[Tensor, "*rows vocabulary"], RETURNS: Float[Tensor, "*rows"] | None},
    kl_divergence: {
        "before": Float[Tensor, "*#rows vocabulary"],
        "after": Float[Tensor, "*#rows vocabulary"],
        RETURNS: Float64[Tensor, "*_"],
    },
    cosine: {"one": Float[Tensor, " d_model"], "other": Float[Tensor, " d_model"]},
    # Head outputs and vectors
    mean_over_prompts: {"values": Float[Tensor, "prompts *size"], RETURNS: Float[Tensor, "*size"]},
    mean_of_means: {"means": Sequence[Float[Tensor, "*size"]], RETURNS: Float[Tensor, "*size"]},
    RelationMeans.__init__: {
        "clean": Float[Tensor, HEADS],
        "corrupted": Float[Tensor, HEADS],
        "residual": Float[Tensor, "layers d_model"],
        "residual_norm": Float[Tensor, " layers"],
        "zero_shot": Float[Tensor, HEADS],
        "zero_shot_residual": Float[Tensor, "layers d_model"],
    },
    PromptOutputs.__init__: dict.fromkeys(("clean", "corrupted"), Float[Tensor, "prompts layers heads head_dim"]),
    weighted_mean: {
        "values": Float[Tensor, "prompts *size"],
        "weights": Float[np.ndarray, " prompts"],
        RETURNS: Float[Tensor, "*size"],
    },
    vector_by_layer: {RETURNS: Float[Tensor, "{lm.n_layers} {lm.d_model}"]},
    vector_of_heads: {RETURNS: Float[Tensor, " {lm.d_model}"]},
    LanguageModel.added_by: {
        "head_outputs": Float[Tensor, "*rows {self.n_heads} {self.head_dim}"],
        "at": Float[Tensor, "{self.n_heads} {self.head_dim}"] | None,
        RETURNS: Float64[Tensor, "*rows {self.n_heads} {self.d_model}"],
    },
    strength: {"vector": Float[Tensor, " d_model"], "residual_norm": Float[Tensor, " layers"] | None},
    norm_of: {"vector": Float[Tensor, " d_model"]},
    norm_matched: {"vector": Float[Tensor, " d_model"], RETURNS: list[Float[Tensor, " d_model"]]},
    mean_vector: {"vectors": Sequence[Float[Tensor, " d_model"]], RETURNS: Float[Tensor, " d_model"]},
    # Engines
    TargetScores.__init__: {
        "logprob": Float64[Tensor, "*rows"],
        "rank": Int64[Tensor, "*rows"],
        "tied": Bool[Tensor, "*rows"],
    },
    NaiveEngine.last_token: {RETURNS: LAST_TOKEN},
    SharedPrefixEngine.last_token: {RETURNS: LAST_TOKEN},
    NaiveEngine.patch_heads: PATCH_HEADS,
    ExpandedBatchEngine.patch_heads: PATCH_HEADS,
    SharedPrefixEngine.patch_heads: PATCH_HEADS,
    target_scores: {"rows": Float[Tensor, "n {lm.d_model}"], "targets": Int[Tensor, " n"]},
    target_logprobs: {
        "rows": Float[Tensor, "n {lm.d_model}"],
        "targets": Int[Tensor, " n"],
        RETURNS: Float64[Tensor, " n"],
    },
    head_scores: {RETURNS: Float64[Tensor, "{len(prompts)} {lm.n_layers} {lm.n_heads}"]},
    # Effects and rankings
    TrialEffects.__init__: {
        "delta_logprob": Float[np.ndarray, "trials layers heads"],
        "delta_p": Float[np.ndarray, "trials layers heads"],
        "queries": Int[np.ndarray, " trials"] | None,
        "only": Bool[np.ndarray, "layers heads"] | None,
    },
    trial_effects: {"clean_mean": Float[Tensor, HEADS]},
    effects_of: {RETURNS: Float[np.ndarray, "{effects.n_queries} heads"]},
    ranked: {"scores": Float[np.ndarray, "*rows heads"], RETURNS: Int[np.ndarray, "*rows heads"]},
    inclusion: {"effects": EFFECTS, RETURNS: Float[np.ndarray, " heads"]},
    mean_scores: {"effects": EFFECTS, RETURNS: Float[np.ndarray, " heads"]},
    other_half_means: {"values": Float[np.ndarray, "trials heads"], RETURNS: Float[np.ndarray, " heads"]},
    gap_at: {"effects": EFFECTS},
    # Intervals
    Estimates.__init__: dict.fromkeys(("mean", "se", "ci_low", "ci_high", "p_positive"), Float[np.ndarray, " series"]),
    estimate_means: {"values": Float[np.ndarray, "series trials"] | Int[np.ndarray, "series trials"]},
    clopper_pearson: {RETURNS: tuple[Float[np.ndarray, "*series"], Float[np.ndarray, "*series"]]},
    adjusted_wald: {
        "differences": Float[np.ndarray, "series trials"],
        RETURNS: tuple[Float[np.ndarray, " series"], Float[np.ndarray, " series"]],
    },
}


def checked(function: Callable[..., Any], shapes: dict[str, Any]) -> Callable[..., Any]:
    """The function, refusing arguments and results of other shapes."""
    signature = inspect.signature(function)
    unknown = shapes.keys() - signature.parameters.keys() - {RETURNS}
    assert not unknown, f"{function.__qualname__} has no {unknown}"

    @jaxtyped(typechecker=None)
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        for name in given.keys() & shapes.keys():
            die_if_unbearable(given[name], shapes[name])
        result = function(*args, **kwargs)
        if RETURNS in shapes:
            die_if_unbearable(result, shapes[RETURNS])
        return result

    return call


def check_shapes() -> None:
    """Put the table in force, in every module of the library that has one of its functions by name."""
    for function, shapes in SHAPES.items():
        call = checked(function, shapes)
        for owner in _owners(function):
            for name in [name for name, value in vars(owner).items() if value is function]:
                setattr(owner, name, call)


def _owners(function: Callable[..., Any]) -> list[Any]:
    owner, _, _ = function.__qualname__.rpartition(".")
    if owner:
        return [getattr(sys.modules[function.__module__], owner)]
    return [module for name, module in sys.modules.items() if name.partition(".")[0] in ("fv", __name__)]
