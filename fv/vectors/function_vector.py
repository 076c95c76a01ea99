"""Function vectors: the average contribution of the chosen heads to the residual stream (spec section 1).

FV = sum over the top-k heads of W_O[layer][:, slice of head] @ clean_mean[layer, head]. The projection's bias is
not added: it belongs to the layer, not to a head. For families that scale or normalise the attention output before
adding it, the same is done here, with the norm's scale taken at the clean mean (`LanguageModel.added_by`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fv.data.origin import check_origin
from fv.errors import ConfigError, ModelError
from fv.heads.effects import KEYS, HeadEffects
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.vectors.kinds import GLOBAL, NAMED, OF_AIE, OWN
from fv.vectors.names import source_name
from fv.vectors.vector import Vector

OTHER_MODEL = (
    "Measure effects with this model (fv.indirect_effects); to try the other model's heads here, pass them beside "
    "these effects: heads=other.top(10)."
)
"""Advice for effects of another model, whose means must not go through this model's projections."""


def vector_by_layer(lm: LanguageModel, clean_mean: Tensor, heads: Sequence[Head]) -> Tensor:
    """Function vector, split by the layers of its heads.

    Args:
        lm: the model whose output projections are used.
        clean_mean: mean head outputs, (n_layers, n_heads, head_dim).
        heads: the chosen heads.

    Returns:
        (n_layers, d_model) on the CPU; its sum over layers is the function vector.

    Raises:
        ModelError: the clean mean comes from a model of another shape.
    """
    if clean_mean.shape != (lm.n_layers, lm.n_heads, lm.head_dim):
        raise ModelError(
            f"The clean mean is {tuple(clean_mean.shape)}, and {lm.name} has (n_layers, n_heads, head_dim) = "
            f"{(lm.n_layers, lm.n_heads, lm.head_dim)}: they belong to different models."
        )
    parts = torch.zeros(lm.n_layers, lm.d_model, dtype=torch.float64)
    for layer in {head.layer for head in heads}:
        added = lm.added_by(layer, clean_mean[layer]).cpu()  # (n_heads, d_model)
        parts[layer] = added[[head.head for head in heads if head.layer == layer]].sum(0)
    return parts.to(clean_mean.dtype)


def vector_of_heads(lm: LanguageModel, clean_mean: Tensor, heads: Sequence[Head]) -> Tensor:
    """Function vector of `heads`, (d_model,)."""
    return vector_by_layer(lm, clean_mean, heads).sum(0)


def function_vector(
    lm: LanguageModel,
    effects: HeadEffects,
    k: int | None = None,
    *,
    heads: Sequence[Head] | None = None,
    key: str = KEYS[0],
) -> Vector:
    """Build the function vector of a relation: the average contribution of its best heads to the residual stream.

    Args:
        lm: the model whose output projections are used.
        effects: effects of one relation, `effects["antonym"]`, or of several, `effects.mean()`; their clean means are
            used.
        k: number of best heads of these effects' own ranking; 10 unless `heads` are given.
        heads: heads to use instead, (layer, head) each; for example the best on average over relations, as in the
            paper: `effects.mean().top(10)`.
        key: the column that ranks heads.

    Returns:
        the vector; `vector.values` is (d_model,).

    Raises:
        ConfigError: both `k` and `heads` are given, a head is given twice or is out of range, or `k` is more than the
            measured heads. Also if the effects come from another model: its heads may be used here, its means not.
        ModelError: the effects come from a model of another shape.

    Warns:
        FvWarning: the effects come from another tokenizer, or from a model that may not be this one.

    Example:
        >>> vector = fv.function_vector(lm, effects["antonym"], k=10)
        >>> tuple(vector.values.shape)
        (576,)
    """
    if not isinstance(effects, HeadEffects):
        raise ConfigError(
            f"effects is a {type(effects).__name__}; pass the effects of one relation, effects['…'], or their average, "
            "effects.mean()."
        )
    if k is not None and heads is not None:
        raise ConfigError("k takes a ranking's best heads, and heads names them; give one.")
    if heads is None:
        chosen = effects.top(10 if k is None else k, key)
    else:
        chosen = checked_heads(heads, lm.n_layers, lm.n_heads)
    origin = effects.measured.origin
    check_origin("effects are", origin, lm, remedy=OTHER_MODEL)
    values = vector_of_heads(lm, effects.means.clean, chosen)
    kind = _kind(effects, chosen, key)
    return Vector(
        source_name(kind, effects.q_id), kind, effects.q_id, values, len(chosen), heads=tuple(chosen), origin=origin
    )


def _kind(effects: HeadEffects, heads: Sequence[Head], key: str) -> str:
    """Kind of a vector of these heads, named as in a run, whether the heads were given or chosen by `k`."""
    ways = {GLOBAL: effects} if effects.q_id is None else {OWN: effects, OF_AIE: effects.measured.mean()}
    for kind, by in ways.items():
        if len(heads) <= len(by.table) and by.top(len(heads), key) == list(heads):
            return kind.name
    return NAMED.name


def checked_heads(heads: Sequence[Head], n_layers: int, n_heads: int) -> list[Head]:
    """Return the given heads if the model has them, each once.

    Raises:
        ConfigError: a head is out of range or given twice, or none is given; the message names the head.
    """
    found = []
    for head in heads:
        pair = tuple(head) if isinstance(head, Sequence) else ()
        if len(pair) != 2 or not (pair[0] in range(n_layers) and pair[1] in range(n_heads)):
            raise ConfigError(
                f"heads holds {head!r}; a head is (layer, head) with layer 0 to {n_layers - 1} and head 0 to "
                f"{n_heads - 1}."
            )
        if Head(*pair) in found:
            raise ConfigError(f"heads names {tuple(pair)} twice.")
        found.append(Head(*pair))
    if not found:
        raise ConfigError("heads is empty; name at least one head.")
    return found
