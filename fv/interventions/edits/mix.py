"""Linear mixture of a part's own output with a vector."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from fv.errors import ConfigError, one_of
from fv.interventions.edit import Edit
from fv.interventions.edit_checks import check_floating, check_vector, is_number
from fv.interventions.place import Part, Place
from fv.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False, repr=False)
class Mix(Edit):
    """Replace the output x of a part of block `layer` by scale * x + vector.

    With one for the attention and one for the MLP of every layer, these are the linear coefficients of implicit
    in-context learning (Li et al., I2CL, 2024).

    Example:
        >>> with lm.edited(fv.Mix(11, "mlp", 0.9, torch.ones(lm.d_model))):
        ...     text = lm.generate("Q: hot\\nA:", max_new_tokens=1)

    Attributes:
        layer: the block, from 0.
        part: `attention`, `mlp` or `residual` (`fv.interventions.place.Part`).
        scale: the factor on the part's own output: a number, or a floating-point tensor, ().
        vector: (d_model,), a floating-point tensor, which is added; None to scale only.
    """

    layer: int
    part: str
    scale: float | Tensor
    vector: Tensor | None = None

    @cached_property
    def places(self) -> tuple[Place, ...]:
        return (Place(self.layer, Part(self.part)),)

    def change(self, place: Place, hidden: Tensor) -> Tensor:
        scale = self.scale.to(hidden) if isinstance(self.scale, Tensor) else self.scale
        scaled = scale * hidden
        return scaled if self.vector is None else scaled + self.vector.to(hidden)

    @classmethod
    def change_rows(cls, edits: Sequence[Self], place: Place, hidden: Tensor) -> Tensor:
        scales = torch.stack([torch.as_tensor(edit.scale, dtype=torch.float64) for edit in edits])
        scales = scales.to(hidden)[:, None]  # (n_rows, 1)
        none = torch.zeros(hidden.shape[-1], device=hidden.device, dtype=hidden.dtype)
        vectors = [none if edit.vector is None else edit.vector.to(hidden) for edit in edits]
        return scales * hidden + torch.stack(vectors)

    def check(self, lm: LanguageModel) -> None:
        one_of("Mix.part", self.part, [part.value for part in Part if part is not Part.heads])
        self.check_places(lm)
        scale = self.scale
        if isinstance(scale, Tensor):
            check_floating("Mix.scale", scale)
            scale = float(scale) if scale.ndim == 0 else torch.nan
        if not is_number(scale):
            raise ConfigError(f"Mix.scale={self.scale!r} must be a finite number, such as 0.9.")
        if self.vector is not None:
            check_vector("Mix.vector", self.vector, lm)
        if scale == 1 and (self.vector is None or not self.vector.to(lm.dtype).any()):
            raise ConfigError("Mix.scale is 1 and nothing is added, so it would change nothing.")

    @property
    def words(self) -> str:
        return f"with {self.places[0]} mixed with a vector"

    def scaled(self, alpha: float) -> Self:
        """Make the edit `alpha` times as strong: x + alpha * ((scale - 1) * x + vector)."""
        vector = None if self.vector is None else alpha * self.vector
        return replace(self, scale=1 + alpha * (self.scale - 1), vector=vector)
