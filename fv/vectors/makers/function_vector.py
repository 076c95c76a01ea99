"""Function vector: the mean outputs of the best heads, projected and summed (Todd et al. 2024, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from fv.vectors.maker import FitTrials, OneVector, States

if TYPE_CHECKING:
    from torch import Tensor

    from fv.progress import Advance


class HeadsBy(StrEnum):
    """Ranking that chooses the heads."""

    own = "own"
    """The relation's own indirect effects."""
    aie = "aie"
    """The average indirect effects over relations, as in the paper."""


@dataclass
class FunctionVector(OneVector):
    """Sum over the best heads of W_O · clean mean, added to the residual stream after one layer."""

    heads: HeadsBy = HeadsBy.own
    """Ranking that chooses the heads: the relation's `own`, or the `aie` over relations."""
    k: Annotated[int, Ge(1)] | None = None
    """Number of heads; null for the run's."""

    label: ClassVar[str] = "function vector"
    source: ClassVar[str] = "Todd et al. 2024"
    of_others: ClassVar[bool] = True

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        from fv.vectors.function_vector import vector_of_heads

        found = of.heads(self.k, self.heads is HeadsBy.aie)
        return {"vector": vector_of_heads(of.lm, found.means.clean, found.heads)}
