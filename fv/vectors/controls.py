"""Controls of a function vector: vectors and sets of heads that should not carry the relation.

Definitions and sources: docs/methods.md, "Controls". Every draw is seeded by the run's seed and its own purpose.
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
from fv.models.site import Site
from fv.seeding import generator_for
from fv.vectors.vector import Vector

MOST_REPEATS = 200
"""Number of repeated draws in a row after which no new ones are expected."""


def norm_matched(vector: Tensor, count: int, rng: np.random.Generator) -> list[Tensor]:
    """Draw vectors of uniformly random direction and of the norm of `vector`."""
    drawn = torch.from_numpy(rng.standard_normal((count, len(vector))))
    scaled = drawn / drawn.norm(dim=1, keepdim=True) * vector.double().norm()
    return list(scaled.to(vector.dtype))


def isotropic_vectors(vector: Vector, count: int, seed: int, layer: int = 0) -> list[Tensor]:
    """Draw `count` vectors of random direction and of the norm that a vector has at a layer, each (d_model,)."""
    return norm_matched(vector.values_at(layer), count, generator_for(seed, "random_vector", vector.name))


def vectors_of_random_outputs(
    lm: LanguageModel, vector: Vector, made_of: VectorHeads, count: int, seed: int
) -> list[Tensor]:
    """Draw `count` vectors that random outputs of a vector's heads would add to the residual stream, each (d_model,).

    Each head's mean output is replaced by a random direction of the same norm, and goes through the same output
    projection. So these vectors lie in the subspace that the heads write to. Isotropic vectors of the same norm may be
    too weak a control: in models whose residual stream has a few dimensions of very large norm, they only do harm.

    Args:
        lm: the model.
        vector: the function vector.
        made_of: its heads and means.
        count: number of vectors; a larger number keeps the first ones.
        seed: the run's seed.
    """
    rng, clean = generator_for(seed, "random_outputs", vector.name), made_of.means.clean
    outputs = torch.zeros(count, *clean.shape, dtype=torch.float64)  # (count, n_layers, n_heads, head_dim)
    # One draw after the other, so that a larger count keeps the first draws.
    for drawn in outputs:
        for layer, head in sorted(made_of.heads):
            drawn[layer, head] = norm_matched(made_of.means.at(Site(layer=layer, head=head)).double(), 1, rng)[0]
    found = torch.zeros(count, lm.d_model, dtype=torch.float64)
    for layer in sorted({head.layer for head in made_of.heads}):
        # The outputs of other heads are zero: (count, n_heads, d_model) -> (count, d_model)
        found += lm.added_by(layer, outputs[:, layer], at=clean[layer]).cpu().sum(1)
    return list(found.to(vector.values.dtype))


def heads_outside(heads: Sequence[Head], every: Sequence[Head]) -> dict[int, list[Head]]:
    """Group the heads of `every` that are not in `heads` by layer: {layer: its heads in order}."""
    inside, outside = set(heads), defaultdict(list)
    for head in sorted(every):
        if head not in inside:
            outside[head.layer].append(head)
    return outside


def layer_matched_heads(
    heads: Sequence[Head], outside: Mapping[int, Sequence[Head]], rng: np.random.Generator
) -> tuple[Head, ...] | None:
    """Draw random heads outside `heads`, as many in each layer as `heads` has there.

    If a layer has too few other heads, the rest come from the nearest layers, the lower one first. None if there are
    fewer heads outside than inside.

    Args:
        heads: the heads to match.
        outside: all other heads by layer, from `heads_outside`.
        rng: the random generator.
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
    """Distinct random sets of heads, and whether these are all that can be drawn."""

    sets: list[tuple[Head, ...]]
    all_draws: bool


def random_head_sets(vector: Vector, made_of: VectorHeads, count: int, seed: int) -> HeadSets:
    """Draw at most `count` distinct sets of layer-matched random heads; none if too few heads are outside."""
    rng = generator_for(seed, "random_heads", vector.name)
    outside = heads_outside(made_of.heads, made_of.every)
    sets: list[tuple[Head, ...]] = []
    repeats = 0
    # One more than requested, to find out whether there are others.
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
    """Mean of vectors of one dtype, each (d_model,), computed in float64."""
    stacked = torch.stack(list(vectors))  # (n_vectors, d_model)
    return stacked.double().mean(0).to(stacked.dtype)
