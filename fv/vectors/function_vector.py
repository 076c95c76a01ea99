"""Function vectors: what the chosen heads add to the residual stream on average (spec section 1).

FV = sum over the top-k heads of W_O[layer][:, slice of head] @ clean_mean[layer, head]. The projection's bias is
not added: it belongs to the layer, not to a head. Families that scale or normalise the attention output before they
add it are followed there, with the norm's scale at the clean mean (`LanguageModel.added_by`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fv.data.origin import check_origin
from fv.errors import ConfigError, ModelError
from fv.heads.effects import KEYS, HeadEffects
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.vectors.names import source_name
from fv.vectors.vector import Vector

OTHER_MODEL = (
    "Measure effects with this model (fv.indirect_effects); to try the other's heads here, name them with these: "
    "heads=other.top(10)."
)
"""What to do with effects of another model, whose means would go through this model's projections."""


def vector_by_layer(lm: LanguageModel, clean_mean: Tensor, heads: Sequence[Head]) -> Tensor:
    """The function vector split by the layer its heads are in.

    Args:
        lm: the model whose output projections are used.
        clean_mean: (n_layers, n_heads, head_dim).
        heads: the chosen heads.

    Returns:
        (n_layers, d_model) on the CPU; its sum over layers is the function vector.

    Raises:
        ModelError: the clean mean is of a model of another shape.
    """
    if clean_mean.shape != (lm.n_layers, lm.n_heads, lm.head_dim):
        raise ModelError(
            f"The clean mean is {tuple(clean_mean.shape)}, and {lm.name} has (n_layers, n_heads, head_dim) = "
            f"{(lm.n_layers, lm.n_heads, lm.head_dim)}: they are of different models."
        )
    parts = torch.zeros(lm.n_layers, lm.d_model, dtype=torch.float64)
    for layer in {head.layer for head in heads}:
        added = lm.added_by(layer, clean_mean[layer]).cpu()  # (n_heads, d_model)
        parts[layer] = added[[head.head for head in heads if head.layer == layer]].sum(0)
    return parts.to(clean_mean.dtype)


def vector_of_heads(lm: LanguageModel, clean_mean: Tensor, heads: Sequence[Head]) -> Tensor:
    """The function vector (d_model,) of `heads`."""
    return vector_by_layer(lm, clean_mean, heads).sum(0)


def function_vector(
    lm: LanguageModel,
    effects: HeadEffects,
    k: int | None = None,
    *,
    heads: Sequence[Head] | None = None,
    key: str = KEYS[0],
) -> Vector:
    """The function vector of a relation: what its best heads add to the residual stream on average.

    Args:
        lm: the model whose output projections are used.
        effects: of one relation, `effects["antonym"]`, or of several, `effects.mean()`; its clean means are used.
        k: how many of its own ranking's best heads; 10 unless `heads` are given.
        heads: these heads, (layer, head) each, instead; of the average over relations, say, as in the paper:
            `effects.mean().top(10)`.
        key: the column that ranks heads.

    Returns:
        the vector; `vector.values` is (d_model,).

    Raises:
        ConfigError: both `k` and `heads`, a head twice or out of range, or more heads than were measured.
            Or the effects are of another model: heads may be another's, means of activations may not.
        ModelError: the effects are of a model of another shape.

    Warns:
        FvWarning: they are of another tokenizer, or it cannot be told whether they are of this model.

    Example:
        >>> vector = fv.function_vector(lm, effects["antonym"], k=10)
        >>> tuple(vector.values.shape)
        (576,)
    """
    if not isinstance(effects, HeadEffects):
        raise ConfigError(
            f"effects is a {type(effects).__name__}, where those of one relation are due, effects['…'], or their "
            "average, effects.mean()."
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
    """What a vector of these heads is: the same as a run calls it, whichever way the heads were named."""
    ways = {"global": effects} if effects.q_id is None else {"qid": effects, "aie_qid": effects.measured.mean()}
    for kind, by in ways.items():
        if len(heads) <= len(by.table) and by.top(len(heads), key) == list(heads):
            return kind
    return "heads"


def checked_heads(heads: Sequence[Head], n_layers: int, n_heads: int) -> list[Head]:
    """Heads that a model has, each once.

    Raises:
        ConfigError: naming the one that is not, or is there twice.
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
        raise ConfigError("heads names no head.")
    return found
