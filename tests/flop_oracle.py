"""Floating-point operations of whatever runs, by PyTorch's own formulas: the oracle that prices are held to."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


def attention_flops(query: torch.Tensor, key: torch.Tensor, *rest: object) -> int:
    """Of the attention that a CPU has, for which PyTorch has no formula; causal attention is half of it."""
    batch, n_heads, n, width = query.shape
    return 4 * batch * n_heads * width * (n * (n + 1) // 2 if any(one is True for one in rest) else n * key.shape[2])


class CountedFlops(TorchDispatchMode):
    """Counts what runs in its block; unlike `FlopCounterMode` it looks at no module, and so allows gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
            self.total += attention_flops(*args)
        elif packet in flop_registry:
            self.total += flop_registry[packet](*args, **(kwargs or {}), out_val=found)
        return found
