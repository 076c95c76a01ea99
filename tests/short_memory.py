"""Memory that runs out: a block of a model refuses to run, as an accelerator with too little memory would."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fv.models.language_model import LanguageModel

Refuses = Callable[[int, int], bool]
"""Whether a pass is refused, by its number and its token rows."""


@contextmanager
def short_of_memory(lm: LanguageModel, refuses: Refuses, error: type[Exception] | None = None) -> Iterator[list[int]]:
    """Let passes through the model's second block run out of memory; gives the rows of those that were refused."""
    passes, refused = 0, []

    def check(_block: Any, args: tuple[Any, ...]) -> None:
        nonlocal passes
        rows = args[0].shape[:-1].numel()
        passes += 1
        if refuses(passes, rows):
            refused.append(rows)
            raise (error or torch.OutOfMemoryError)("out of memory: tried to allocate 20.00 GiB")

    handle = lm.blocks[1].register_forward_pre_hook(check)
    try:
        yield refused
    finally:
        handle.remove()
