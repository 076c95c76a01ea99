"""Kin groups: pairs of a relation that would reveal one another."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fv.data.relations import Pair, normalise


def kin_groups(pairs: Sequence[Pair]) -> np.ndarray:
    """Number the groups of pairs that would leak into one another: (n_pairs,) int.

    Two pairs are kin if, in normal form, they have the same input or are each other's reverse; kin of kin are kin.
    """
    first: dict[str, int] = {}
    same_input = [first.setdefault(normalise(pair.exA), i) for i, pair in enumerate(pairs)]
    seen: dict[tuple[str, ...], int] = {}
    reverse = list(range(len(pairs)))
    for i, pair in enumerate(pairs):
        # Only a pair whose output is also an input can have a reverse; the others need no key, which saves memory.
        if (output := normalise(pair.exB)) in first:
            reverse[i] = seen.setdefault(tuple(sorted((normalise(pair.exA), output))), i)
    rows = np.array([*same_input, *reverse], dtype=np.int32)
    columns = np.tile(np.arange(len(pairs), dtype=np.int32), 2)
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(len(pairs), len(pairs)))
    return connected_components(graph, directed=False)[1]
