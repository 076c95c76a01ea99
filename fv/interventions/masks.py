"""Masks of attention, as a model makes them: an engine refuses masks for which it is not exact."""

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fv.errors import EngineError
from fv.interventions.hooks import BlockCall, noted_calls
from fv.interventions.prefix_attention import attending_by
from fv.models.language_model import LanguageModel

_PASSED: WeakKeyDictionary[nn.Module, dict[bool, int]] = WeakKeyDictionary()
"""{model: {`whole` of a passed check: the longest prompt that passed it}}."""


def check_masks(lm: LanguageModel, n_tokens: int, whole: bool) -> None:
    """Refuse a model whose tokens see later tokens or, with `whole`, do not see all earlier tokens alike.

    The masks are the ones that the model gives to its blocks for a prompt of `n_tokens` tokens; no block is run. Tokens
    that a block hides by itself are found by the self-check at load (`fv.interventions.selfcheck`).

    Raises:
        EngineError: a mask is not allowed; names the layer and the length.
    """
    passed = _PASSED.setdefault(lm.model, {})
    if n_tokens <= passed.get(whole, 1):
        return
    ids = torch.zeros(1, n_tokens, dtype=torch.long, device=lm.device)
    with attending_by(lm, "eager"), noted_calls(lm) as calls:
        lm.model.base_model(input_ids=ids, use_cache=False)
    for layer, call in enumerate(calls):
        for mask in _masks_of(call, n_tokens):
            _check(lm, layer, mask, whole)
    passed[whole] = n_tokens


def _masks_of(call: BlockCall, n_tokens: int) -> Iterator[Tensor]:
    """A block's arguments that have a value for each pair of tokens: (batch, 1 or n_heads, tokens, tokens)."""
    values: list[Any] = [*call.args, *call.kwargs.values()]
    for value in values:
        for part in value.values() if isinstance(value, dict) else [value]:
            if isinstance(part, Tensor) and part.ndim == 4 and part.shape[-2:] == (n_tokens, n_tokens):
                yield part


def _check(lm: LanguageModel, layer: int, mask: Tensor, whole: bool) -> None:
    n_tokens = mask.shape[-1]
    is_bool = mask.dtype is torch.bool
    seen = mask if is_bool else mask > torch.finfo(mask.dtype).min / 2  # (batch, heads, tokens, tokens)
    if not seen.diagonal(dim1=-2, dim2=-1).any():
        seen = ~seen  # this mask is true for hidden tokens, because every token sees itself
    earlier = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=mask.device).tril()
    what = f"Layer {layer} of {lm.name}, in a prompt of {n_tokens} tokens, "
    if (seen & ~earlier).any():
        raise EngineError(f"{what}lets tokens see later ones, for which only the naive engine is exact.")
    if whole and (seen != earlier).any():
        n_hidden = int((earlier & ~seen)[..., -1, :].sum(-1).max())
        raise EngineError(
            f"{what}hides earlier tokens by a window or chunks ({n_hidden} from the last one): the shared-prefix "
            "engine would look past that, and the expanded one does not."
        )
    if whole and not is_bool and mask.masked_fill(~seen, 0).any():
        raise EngineError(
            f"{what}adds numbers to its scores by position, which the shared-prefix engine does not; the expanded one "
            "does."
        )
