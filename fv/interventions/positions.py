"""Positions at which edits act in a forward pass, whatever part of its sequences the pass runs.

A pass may run a whole padded prompt, one generated token on a cache, or prompt and generated tokens again. So positions
are counted in columns of the whole sequences, padding included. Passes in which they cannot be determined are refused.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fv.errors import ModelError, one_of

PACKED = ("cu_seq_lens_q", "cu_seq_lens_k", "cu_seqlens", "seq_idx", "block_table")
"""Arguments of a forward in which several prompts share a row."""


class Positions(StrEnum):
    """Kinds of positions at which edits act.

    `last_prompt`: at the last token of each prompt. `all`: at every token of prompt and continuation. `generated`: at
    the tokens after the prompt. Never at padding.
    """

    last_prompt = "last_prompt"
    all = "all"
    generated = "generated"


def parse_positions(value: str) -> Positions:
    """The positions called `value`.

    Raises:
        ConfigError: there are no positions of this name.
    """
    return one_of("positions", value, Positions)


class Columns(NamedTuple):
    """The part of its sequences that a forward pass runs.

    Attributes:
        start: the first column that it runs; earlier columns are in its cache.
        real: (batch, end) bool, false at padding; `end` is one more than the last column that it runs.
    """

    start: int
    real: Tensor

    @property
    def end(self) -> int:
        return self.real.shape[1]


def columns_of(given: Mapping[str, Any]) -> Columns:
    """The columns that a forward with these arguments runs.

    Raises:
        ModelError: the columns cannot be determined from the arguments.
    """
    if packed := [name for name in PACKED if given.get(name) is not None]:
        raise ModelError(f"{packed[0]} packs several prompts into a row, where no edit can be placed: pad them.")
    tokens = given.get("input_ids")
    if tokens is None:
        tokens = given.get("inputs_embeds")
    if not isinstance(tokens, Tensor) or tokens.ndim < 2:
        raise ModelError(
            "An edited forward needs input_ids, (batch, tokens), or inputs_embeds, (batch, tokens, d_model)."
        )
    batch, n_tokens = tokens.shape[:2]
    start = cached_tokens(given.get("past_key_values"))
    real = _real(given.get("attention_mask"), batch, start + n_tokens, tokens.device)
    _check_not_packed(given.get("position_ids"), real[:, start:])
    return Columns(start, real)


def cached_tokens(cache: Any) -> int:
    """Number of tokens in a cache; 0 without a cache.

    Raises:
        ModelError: the cache is of an unknown kind.
    """
    if cache is None:
        return 0
    if not hasattr(cache, "get_seq_length"):
        raise ModelError(f"past_key_values is a {type(cache).__name__}, where an edit can follow a Cache only.")
    return int(cache.get_seq_length())


def _real(mask: Any, batch: int, end: int, device: torch.device) -> Tensor:
    """Mask of the columns that are not padding, (batch, end) bool."""
    if mask is None:
        return torch.ones(batch, end, dtype=torch.bool, device=device)
    if not isinstance(mask, Tensor) or tuple(mask.shape) != (batch, end):
        shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise ModelError(
            f"attention_mask is {shape}, where an edit can be placed by ({batch}, {end}) only, a column for each token "
            "and each cached one. Static caches and masks of one's own are not supported."
        )
    if not ((mask == 0) | (mask == 1)).all():
        raise ModelError("attention_mask holds other values than 0 and 1, so it does not tell padding from tokens.")
    return mask == 1


def _check_not_packed(position_ids: Any, real: Tensor) -> None:
    if position_ids is None:
        return
    if position_ids.shape not in (real.shape, real[:1].shape):
        raise ModelError(f"position_ids are {tuple(position_ids.shape)}, where {tuple(real.shape)} is due.")
    steps = (position_ids[:, 1:] - position_ids[:, :-1]).expand(len(real), -1)
    if (steps[real[:, 1:] & real[:, :-1]] <= 0).any():
        raise ModelError("position_ids start again within a row, as packed prompts have them: pad them instead.")


def meant_positions(positions: Positions, columns: Columns, prompt: int) -> Tensor:
    """The positions at which edits act in a forward pass whose sequences begin with `prompt` columns of prompt.

    Returns:
        (batch, tokens) bool, for the tokens that it runs.

    Raises:
        ModelError: a row's prompt has no token, but its last token is to be edited.
    """
    start, real = columns
    here = torch.arange(start, columns.end, device=real.device)
    if positions is Positions.all:
        return real[:, start:]
    if positions is Positions.generated:
        return real[:, start:] & (here >= prompt)
    of_prompt = real[:, :prompt]
    if not (has_token := of_prompt.any(1)).all():
        row = int(has_token.long().argmin())
        raise ModelError(f"Row {row} of attention_mask has no token of a prompt, so no last one to edit.")
    last = prompt - 1 - of_prompt.flip(1).long().argmax(1)  # (batch,)
    return here == last[:, None]
