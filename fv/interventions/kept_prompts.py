"""Kept prompts: batches that were run, stored for later calls with the same prompts."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from fv.models.prompt import Prompt

log = logging.getLogger(__name__)


class HasSize(Protocol):
    """A thing that can be kept, with its size in bytes."""

    @property
    def n_bytes(self) -> int: ...


Batch = TypeVar("Batch", bound=HasSize)


class KeptPrompts(Generic[Batch]):
    """Results of running batches of prompts, by the prompts, up to a number of bytes; kept inside `keeping` only.

    A batch that does not fit is run again for each call. The first batches stay: batches that are used in turn would
    otherwise replace one another all the time.

    Args:
        quiet: whether to log nothing about prompts that did not fit.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._free: int | None = None  # bytes; None outside `keeping`
        self._kept: dict[tuple[Prompt, ...], Batch] = {}
        self._left_out: set[tuple[Prompt, ...]] = set()

    @property
    def is_keeping(self) -> bool:
        """True if batches are kept at present."""
        return self._free is not None

    @property
    def n_bytes(self) -> int:
        """Memory of the kept batches, in bytes."""
        return sum(batch.n_bytes for batch in self._kept.values())

    @contextmanager
    def keeping(self, most_bytes: int) -> Iterator[None]:
        """Keep batches inside the block, up to `most_bytes`; inside another such block, the outer limit stays."""
        if self._free is not None:
            yield
            return
        self._free = most_bytes
        try:
            yield
        finally:
            if self._left_out and not self._quiet:
                n_kept, n_out = (sum(map(len, keys)) for keys in (self._kept, self._left_out))
                size = f"{most_bytes / 2**20:g} MB"
                log.info("%d prompts were kept in %s; %d that did not fit ran each time.", n_kept, size, n_out)
            self._free = None
            self._kept.clear()
            self._left_out.clear()

    def of(self, prompts: Sequence[Prompt], run: Callable[[Sequence[Prompt]], Batch]) -> Batch:
        """The kept batch of these prompts, or else the result of `run`."""
        key = tuple(prompts)
        if (known := self._kept.get(key)) is not None:
            return known
        batch = run(prompts)
        if self._free is None:
            return batch
        if batch.n_bytes <= self._free:
            self._kept[key] = batch
            self._free -= batch.n_bytes
        else:
            self._left_out.add(key)
        return batch
