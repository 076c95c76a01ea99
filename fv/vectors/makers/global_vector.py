"""Global vector: the function vector of the mean over relations, in the heads of the AIE (spec section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from fv.vectors.maker import FitTrials, OneVector, States

if TYPE_CHECKING:
    from torch import Tensor

    from fv.progress import Advance


@dataclass
class GlobalVector(OneVector):
    """Sum over the AIE's best heads of W_O · mean over relations, added to the residual stream after one layer."""

    k: Annotated[int, Ge(1)] | None = None
    """Number of heads; null for the run's."""

    label: ClassVar[str] = "global vector"
    source: ClassVar[str] = "spec section 2"
    of_others: ClassVar[bool] = True

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        from fv.vectors.function_vector import vector_of_heads

        found = of.effects.heads_of(None, of.ranking, self.k or of.ranking.k)
        return {"vector": vector_of_heads(of.lm, found.means.clean, found.heads)}
