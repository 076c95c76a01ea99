"""Named heads: the function vector of heads that the user names, with the relation's means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fv.vectors.maker import FitTrials, OneVector, States

if TYPE_CHECKING:
    from torch import Tensor

    from fv.progress import Advance


@dataclass
class NamedHeads(OneVector):
    """Sum over the named heads of W_O · clean mean, added to the residual stream after one layer."""

    heads: list[tuple[int, int]] | None = None
    """The heads, (layer, head) each; has to be given."""

    label: ClassVar[str] = "named heads"
    source: ClassVar[str] = "Todd et al. 2024"
    required: ClassVar[tuple[str, ...]] = ("heads",)

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        from fv.interventions.engine import Head
        from fv.vectors.function_vector import checked_heads, vector_of_heads

        heads = checked_heads([Head(*head) for head in self.heads or []], of.lm.n_layers, of.lm.n_heads)
        return {"vector": vector_of_heads(of.lm, of.means.clean, heads)}
