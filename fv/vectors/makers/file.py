"""File: a vector that was saved before, here or elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fv.vectors.maker import FitTrials, OneVector, States

if TYPE_CHECKING:
    from torch import Tensor

    from fv.progress import Advance


@dataclass
class File(OneVector):
    """A vector of a file, added to the residual stream after one layer."""

    path: str | None = None
    """File with one (d_model,) vector, `.safetensors` or `.pt`; has to be given."""

    label: ClassVar[str] = "vector of a file"
    source: ClassVar[str] = ""
    required: ClassVar[tuple[str, ...]] = ("path",)

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        from pathlib import Path

        from fv.vectors.file import read_vector

        return {"vector": read_vector(Path(self.path or ""), of.lm).values}
