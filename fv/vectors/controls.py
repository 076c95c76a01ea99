"""What controls of a function vector are made of: vectors and heads that should not carry the relation.

Definitions and sources: docs/methods.md, "Controls". Every draw is seeded by the run's seed and by what it is for.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fv.heads.ranking import VectorHeads
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.seeding import generator_for
from fv.vectors.vector import Vector

MOST_REPEATS = 200
"""Draws in a row that were drawn before, after which there are no new ones."""


def norm_matched(vector: Tensor, count: int, rng: np.random.Generator) -> list[Tensor]:
    """Gaussian vectors of uniform direction and of the norm of `vector`."""
    drawn = torch.from_numpy(rng.standard_normal((count, len(vector))))
    scaled = drawn / drawn.norm(dim=1, keepdim=True) * vector.double().norm()
    return list(scaled.to(vector.dtype))


def isotropic_vectors(vector: Vector, count: int, seed: int) -> list[Tensor]:
    """The first `count` draws of random vectors of a function vector's norm, each (d_model,)."""
    return norm_matched(vector.values, count, generator_for(seed, "random_vector", vector.name))


def vectors_of_random_outputs(
    lm: LanguageModel, vector: Vector, made_of: VectorHeads, count: int, seed: int
) -> list[Tensor]:
    """The first `count` draws of what random outputs of a vector's heads add to the residual stream, each (d_model,).

    Each head's mean output is replaced by a Gaussian direction of the same norm and goes through the same output
    projection. Such vectors lie where heads write. Isotropic ones of the vector's norm need not act at all: on models
    whose stream has a few dimensions of great norm they do nothing but harm.

    Args:
        lm: the model.
        vector: the function vector.
        made_of: its heads and means.
        count: how many.
        seed: the run's seed.
    """
    rng, clean = generator_for(seed, "random_outputs", vector.name), made_of.means.clean
    outputs = torch.zeros(count, *clean.shape, dtype=torch.float64)  # (count, n_layers, n_heads, head_dim)
    # Draw by draw, so that more draws keep the first.
    for drawn in outputs:
        for layer, head in sorted(made_of.heads):
            drawn[layer, head] = norm_matched(clean[layer, head].double(), 1, rng)[0]
    found = torch.zeros(count, lm.d_model, dtype=torch.float64)
    for layer in sorted({head.layer for head in made_of.heads}):
        # The outputs of other heads are zero: (count, n_heads, d_model) -> (count, d_model)
        found += lm.added_by(layer, outputs[:, layer], at=clean[layer]).cpu().sum(1)
    return list(found.to(vector.values.dtype))


def heads_outside(heads: Sequence[Head], every: Sequence[Head]) -> dict[int, list[Head]]:
    """{layer: those of `every` that are not in `heads`, in order}, by layer."""
    inside, outside = set(heads), defaultdict(list)
    for head in sorted(every):
        if head not in inside:
            outside[head.layer].append(head)
    return outside


def layer_matched_heads(
    heads: Sequence[Head], outside: Mapping[int, Sequence[Head]], rng: np.random.Generator
) -> tuple[Head, ...] | None:
    """Random heads outside `heads`, as many in each layer.

    Where a layer has too few others, the rest come from the layers nearest to it, the lower of two first. None where
    there are fewer heads outside than inside.

    Args:
        heads: the heads.
        outside: the others, as `heads_outside` has them.
        rng: the generator.
    """
    left = {layer: list(others) for layer, others in outside.items()}
    if sum(map(len, left.values())) < len(heads):
        return None
    for others in left.values():
        rng.shuffle(others)
    drawn: list[Head] = []
    for layer, count in sorted(Counter(head.layer for head in heads).items()):
        for _ in range(count):
            here = left.get(layer) or left[min((at for at in left if left[at]), key=lambda at: (abs(at - layer), at))]
            drawn.append(here.pop())
    return tuple(sorted(drawn))


class HeadSets(NamedTuple):
    """Distinct draws of random heads, and whether there are no others."""

    sets: list[tuple[Head, ...]]
    all_draws: bool


def random_head_sets(vector: Vector, made_of: VectorHeads, count: int, seed: int) -> HeadSets:
    """At most `count` distinct draws of layer-matched random heads; none where there are too few heads outside."""
    rng = generator_for(seed, "random_heads", vector.name)
    outside = heads_outside(made_of.heads, made_of.every)
    sets: list[tuple[Head, ...]] = []
    repeats = 0
    # One more than asked for, which tells whether there are others.
    while len(sets) <= count and repeats < MOST_REPEATS:
        heads = layer_matched_heads(made_of.heads, outside, rng)
        if heads is None:
            return HeadSets([], True)
        if heads in sets:
            repeats += 1
        else:
            sets.append(heads)
            repeats = 0
    return HeadSets(sets[:count], len(sets) <= count)


def mean_vector(vectors: Sequence[Tensor]) -> Tensor:
    """The mean of vectors of one type, each (d_model,), taken in float64."""
    stacked = torch.stack(list(vectors))  # (n_vectors, d_model)
    return stacked.double().mean(0).to(stacked.dtype)
