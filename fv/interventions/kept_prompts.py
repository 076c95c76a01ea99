"""Batches of prompts that were run, kept for as long as somebody may ask for them again."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from fv.models.prompt import Prompt

log = logging.getLogger(__name__)


class HasSize(Protocol):
    """What is kept: it says how large it is."""

    @property
    def n_bytes(self) -> int: ...


Batch = TypeVar("Batch", bound=HasSize)


class KeptPrompts(Generic[Batch]):
    """What running a batch of prompts gave, by the prompts, up to so many bytes; outside `keeping`, nothing is kept.

    What does not fit is run again when it is asked for again: the first batches stay, since those that come in turns
    would otherwise push one another out.

    Args:
        quiet: whether nothing is said of what did not fit.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._free: int | None = None  # bytes; None outside `keeping`
        self._kept: dict[tuple[Prompt, ...], Batch] = {}
        self._left_out: set[tuple[Prompt, ...]] = set()

    @property
    def is_keeping(self) -> bool:
        """Whether batches are kept now."""
        return self._free is not None

    @property
    def n_bytes(self) -> int:
        """Memory of what is kept."""
        return sum(batch.n_bytes for batch in self._kept.values())

    @contextmanager
    def keeping(self, most_bytes: int) -> Iterator[None]:
        """Keep batches inside the block; inside another one, that one's limit stays."""
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
        """A batch that is kept, or else what `run` gives."""
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
