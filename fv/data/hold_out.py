"""Held-out queries: the pairs set aside with each, and the pairs that must be left for fit trials (spec section 5)."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fv.config import DataConfig

LEAST_QUERIES = 12
"""Fewest distinct fit queries that must be left, or the number of fit trials if that is smaller.

Means and effects are averaged over queries; using the same few again with other demonstrations does not replace them.
A relation needed twelve before queries could be used again, so that no relation holds out fewer trials than then.
"""


class FitSide:
    """The pairs that are left for fit trials while queries are held out, one after another.

    A held-out query sets aside its kin group (`fv.data.kin_groups`), and under `hold_out=outputs` every pair that has
    its output. The following must be left: more groups than a prompt has demonstrations, `LEAST_QUERIES` pairs, and
    under `hold_out=outputs` half of the relation's outputs, but at least two and at most the required number of groups
    (so three of five continents are left, not two).

    Args:
        groups: the kin group of each pair, numbered from 0 on, (n_pairs,).
        outputs: the output of each pair, in normal form and numbered from 0 on, (n_pairs,); None unless outputs are
            held out.
        data: the configured counts.

    Attributes:
        left: whether each pair is left, (n_pairs,) bool.
    """

    def __init__(self, groups: np.ndarray, outputs: np.ndarray | None, data: DataConfig) -> None:
        self.left = np.ones(len(groups), dtype=bool)
        self._groups = _Members(groups)
        self._least_groups = data.n_demos + 1
        self._least_pairs = min(data.n_trials_per_q, LEAST_QUERIES)
        self._n_pairs = len(groups)
        self._outputs = None if outputs is None else _Members(outputs)
        if self._outputs:
            self._least_outputs = max(2, min(-(-self._outputs.n_left // 2), data.n_demos + 1))
        self._too_many: set[int] = set()

    def can_spare(self, query: int) -> bool:
        """True if enough pairs are left once `query` is held out."""
        if self._outputs and int(self._outputs.numbers[query]) in self._too_many:
            return False
        gone = self._gone_with(query)
        enough = (
            self._n_pairs - len(gone) >= self._least_pairs
            and self._groups.left_without(gone) >= self._least_groups
            and (self._outputs is None or self._outputs.left_without(gone) >= self._least_outputs)
        )
        if self._outputs and not enough and self.left[query]:
            # The pairs left only get fewer, so other pairs with this output need not be counted again.
            self._too_many.add(int(self._outputs.numbers[query]))
        return enough

    def set_aside(self, query: int) -> None:
        """Hold out `query`, with all pairs that it sets aside."""
        gone = self._gone_with(query)
        self.left[gone] = False
        self._n_pairs -= len(gone)
        for members in filter(None, (self._groups, self._outputs)):
            members.remove(gone)

    def candidates(self, order: Sequence[int], usable: Callable[[int], bool]) -> Iterator[int]:
        """Yield queries that can be held out, one per kin group, in `order`; each is set aside before the next search.

        Args:
            order: all pairs, first those to be held out first.
            usable: tells whether a pair can be a query; called only for pairs that can be spared.
        """
        seen: set[int] = set()
        for i in order:
            group = int(self._groups.numbers[i])
            if group in seen:
                continue
            if not self.can_spare(i):
                if self._outputs is None:
                    return
                continue  # another output may be less frequent
            if usable(i):
                seen.add(group)
                self.set_aside(i)
                yield i

    def _gone_with(self, query: int) -> np.ndarray:
        """The pairs still left that holding out `query` would set aside."""
        gone = self._groups.of(query)
        if self._outputs:
            gone = np.union1d(gone, self._outputs.of(query))
        return gone[self.left[gone]]


class _Members:
    """Pairs by a number that each has, with the count of pairs left for each number."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers
        self._counts = np.bincount(numbers)
        self._pairs = np.argsort(numbers, kind="stable")
        self._ends = np.cumsum(self._counts)
        self._sizes = self._counts.copy()
        self.n_left = int((self._counts > 0).sum())

    def of(self, pair: int) -> np.ndarray:
        """All pairs with the same number as a pair, itself included."""
        end = self._ends[self.numbers[pair]]
        return self._pairs[end - self._sizes[self.numbers[pair]] : end]

    def left_without(self, pairs: np.ndarray) -> int:
        """The count of numbers that are left if some of the left pairs are removed."""
        found, counts = np.unique(self.numbers[pairs], return_counts=True)
        return self.n_left - int((self._counts[found] == counts).sum())

    def remove(self, pairs: np.ndarray) -> None:
        """Remove some of the left pairs."""
        self.n_left = self.left_without(pairs)
        np.subtract.at(self._counts, self.numbers[pairs], 1)
