"""Residual stream of a relation's prompts; strengths of injections are relative to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Stream:
    """Residual stream of a relation's zero-shot prompts.

    Attributes:
        norm: its mean norm after each block, (n_layers,); None if it was not measured.
        is_unit: whether this norm is the unit of alpha (`AlphaUnit.residual`).
    """

    norm: Tensor | None = None
    is_unit: bool = False

    @property
    def unit(self) -> Tensor | None:
        """Unit of alpha at each layer, (n_layers,); None if alpha itself is the factor on the vector."""
        return self.norm if self.is_unit else None

    def relative(self, norm: float, layer: int | None) -> float | None:
        """A vector's norm divided by the stream's after block `layer`; None if that was not measured, or no block."""
        return None if self.norm is None or layer is None else norm / float(self.norm[layer])
