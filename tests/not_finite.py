"""Models whose numbers are not finite behind some prompts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fv.models.language_model import LanguageModel


@contextmanager
def not_finite(lm: LanguageModel, *prompts: Sequence[int], bad: float = torch.nan) -> Iterator[None]:
    """Let whatever begins as one of these prompts be embedded as numbers that are not finite."""
    starts = [torch.tensor(list(ids[: max(1, len(ids) - 1)])) for ids in prompts]  # engines run last tokens apart

    def embed(_module: Any, args: tuple[Any, ...], embedded: Tensor) -> Tensor:
        ids, found = args[0], embedded.clone()
        for start in starts:
            if ids.shape[1] >= len(start):
                found[(ids[:, : len(start)] == start).all(-1)] = bad
        return found

    handle = lm.model.get_input_embeddings().register_forward_hook(embed)
    try:
        yield
    finally:
        handle.remove()
