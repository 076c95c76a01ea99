"""Addition of a linear map of the residual stream to itself."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from torch import Tensor

from fv.errors import ConfigError
from fv.interventions.edit import Edit
from fv.interventions.edit_checks import check_floating, check_tensor, check_vector
from fv.interventions.place import Part, Place
from fv.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False, repr=False)
class AddLinear(Edit):
    """Add a linear map of the residual stream h after block `layer` to it: h + W h + vector.

    Example:
        >>> narrow = torch.zeros(lm.d_model, 4), torch.zeros(4, lm.d_model)
        >>> with lm.edited(fv.AddLinear(11, narrow, torch.ones(lm.d_model))):
        ...     text = lm.generate("Q: hot\\nA:", max_new_tokens=1)

    Attributes:
        layer: the block, from 0.
        weight: W, a floating-point tensor (d_model, d_model); or two, (d_model, r) and (r, d_model), whose product it
            is.
        vector: (d_model,), a floating-point tensor, which is added; None for none.
    """

    layer: int
    weight: Tensor | tuple[Tensor, Tensor]
    vector: Tensor | None = None

    @cached_property
    def places(self) -> tuple[Place, ...]:
        return (Place(self.layer, Part.residual),)

    def change(self, place: Place, hidden: Tensor) -> Tensor:
        mapped = hidden  # (…, d_model) -> (…, r) -> (…, d_model)
        for factor in reversed(self._factors):
            mapped = mapped @ factor.to(hidden).T
        return hidden + mapped if self.vector is None else hidden + mapped + self.vector.to(hidden)

    @property
    def _factors(self) -> tuple[Tensor, ...]:
        return self.weight if isinstance(self.weight, tuple) else (self.weight,)

    def check(self, lm: LanguageModel) -> None:
        self.check_places(lm)
        name, width = "AddLinear.weight", lm.d_model
        if isinstance(self.weight, tuple):
            if len(self.weight) != 2:
                raise ConfigError(f"{name} has {len(self.weight)} factors: give one tensor, or two factors.")
            up, down = self.weight
            check_floating(f"{name}[0]", up)
            rank = up.shape[-1] if up.ndim else 0
            check_tensor(f"{name}[0]", up, (width, rank), "from r numbers to the residual stream", lm)
            check_tensor(f"{name}[1]", down, (rank, width), "from the residual stream to r numbers", lm)
        else:
            check_tensor(name, self.weight, (width, width), "from the residual stream to itself", lm)
        if self.vector is not None:
            check_vector("AddLinear.vector", self.vector, lm)
        maps = all(factor.to(lm.dtype).any() for factor in self._factors)
        if not maps and (self.vector is None or not self.vector.to(lm.dtype).any()):
            raise ConfigError(f"{name} is zero and no vector is added, so it would change nothing.")

    @property
    def words(self) -> str:
        return f"with a linear map added after block {self.layer}"

    def scaled(self, alpha: float) -> Self:
        vector = None if self.vector is None else alpha * self.vector
        if isinstance(self.weight, tuple):
            up, down = self.weight
            return replace(self, weight=(alpha * up, down), vector=vector)
        return replace(self, weight=alpha * self.weight, vector=vector)
