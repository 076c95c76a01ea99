"""What a function vector is compared with: vectors and heads that should not carry the relation.

Definitions and sources: docs/methods.md, "Controls". Every draw is seeded by the run's seed and by what it is for.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fv.config import ControlsConfig
from fv.heads.effects import VectorHeads
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.seeding import generator_for
from fv.vectors.function_vector import vector_of_heads
from fv.vectors.vector import Vector

MOST_REPEATS = 200
"""Draws in a row that were drawn before, after which there are no new ones."""


class Control(NamedTuple):
    """A vector injected in the function vector's place.

    Attributes:
        name: the kind of control.
        draw: which of several of its kind.
        values: (d_model,).
        of: the relation it is of, where it is of one.
        all_draws: whether there are no other draws of its kind than those that are made.
    """

    name: str
    draw: int
    values: Tensor
    of: str | None = None
    all_draws: bool = True


def norm_matched(vector: Tensor, count: int, rng: np.random.Generator) -> list[Tensor]:
    """Gaussian vectors of uniform direction and of the norm of `vector`."""
    drawn = torch.from_numpy(rng.standard_normal((count, len(vector))))
    scaled = drawn / drawn.norm(dim=1, keepdim=True) * vector.double().norm()
    return list(scaled.to(vector.dtype))


def layer_matched_heads(
    heads: Sequence[Head], ranking: Sequence[Head], rng: np.random.Generator
) -> tuple[Head, ...] | None:
    """Random heads outside `heads`, as many in each layer.

    Where a layer has too few others, the rest come from the layers nearest to it, the lower of two first. None where
    there are fewer heads outside than inside.
    """
    outside: dict[int, list[Head]] = defaultdict(list)
    for head in sorted(set(ranking) - set(heads)):
        outside[head.layer].append(head)
    if sum(map(len, outside.values())) < len(heads):
        return None
    for others in outside.values():
        rng.shuffle(others)
    drawn: list[Head] = []
    for layer, count in sorted(Counter(head.layer for head in heads).items()):
        for _ in range(count):
            nearest = min((at for at in outside if outside[at]), key=lambda at: (abs(at - layer), at))
            drawn.append(outside[nearest].pop())
    return tuple(sorted(drawn))


class HeadSets(NamedTuple):
    """Distinct draws of random heads, and whether there are no others."""

    sets: list[tuple[Head, ...]]
    all_draws: bool


def random_head_sets(vector: Vector, made_of: VectorHeads, count: int, seed: int) -> HeadSets:
    """At most `count` distinct draws of layer-matched random heads; none where there are too few heads outside."""
    rng = generator_for(seed, "random_heads", vector.name)
    sets: list[tuple[Head, ...]] = []
    repeats = 0
    while len(sets) < count and repeats < MOST_REPEATS:
        heads = layer_matched_heads(made_of.heads, made_of.ranking, rng)
        if heads is None:
            return HeadSets([], True)
        if heads in sets:
            repeats += 1
        else:
            sets.append(heads)
            repeats = 0
    return HeadSets(sets, len(sets) < count)


def make_controls(
    lm: LanguageModel,
    vector: Vector,
    made_of: VectorHeads | None,
    others: dict[str, Tensor],
    config: ControlsConfig,
    seed: int,
) -> list[Control]:
    """The controls of one vector. What it takes to make one may be missing; then there is none of its kind.

    Args:
        lm: the model.
        vector: the function vector.
        made_of: its heads; None for a vector from a file.
        others: the vectors of the other relations.
        config: which controls.
        seed: the run's seed.
    """
    rng = generator_for(seed, "random_vector", vector.name)
    found = [
        Control("random_vector", draw, values, all_draws=False)
        for draw, values in enumerate(norm_matched(vector.values, config.random_vectors, rng))
    ]
    if made_of is not None:
        clean = made_of.means.clean
        sets, every = random_head_sets(vector, made_of, config.random_heads, seed)
        for draw, heads in enumerate(sets):
            found.append(Control("random_heads", draw, vector_of_heads(lm, clean, heads), all_draws=every))
        k = len(made_of.heads)
        if config.bottom_heads and 2 * k <= len(made_of.ranking):
            found.append(Control("bottom_heads", 0, vector_of_heads(lm, clean, made_of.ranking[-k:])))
        if config.corrupted:
            found.append(Control("corrupted_prompts", 0, vector_of_heads(lm, made_of.means.corrupted, made_of.heads)))
    if others and config.other_relation:
        found += [Control("other_relation", draw, others[name], name) for draw, name in enumerate(sorted(others))]
    if others and config.mean_of_others:
        stacked = torch.stack([others[name] for name in sorted(others)])
        found.append(Control("mean_of_others", 0, stacked.double().mean(0).to(stacked.dtype)))
    return found
