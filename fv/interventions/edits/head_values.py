"""Values for named heads: the base of `SetHeads` and `AddHeads`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from fv.errors import ConfigError
from fv.interventions.edit import Edit
from fv.interventions.edit_checks import check_finite, check_floating, check_heads
from fv.interventions.place import Part, Place
from fv.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False, repr=False)
class HeadValues(Edit):
    """An edit of one or several heads, each with a value of its own, (head_dim,)."""

    heads: tuple[tuple[int, int], ...]
    values: Tensor | float

    @cached_property
    def places(self) -> tuple[Place, ...]:
        return tuple(Place(layer, Part.heads) for layer in sorted({layer for layer, _ in self.heads}))

    def value(self, number: int, width: int) -> Tensor:
        """The value of the head with this number among `heads`, (width,)."""
        if not isinstance(self.values, Tensor):
            return torch.full((width,), self.values, dtype=torch.float64)
        if self.values.ndim == 3:
            layer, head = self.heads[number]
            return self.values[layer, head]
        return self.values[number] if self.values.ndim == 2 else self.values.expand(width)

    def numbers_in(self, layer: int) -> list[int]:
        """The numbers, among `heads`, of the heads in a layer."""
        return [number for number, (in_layer, _) in enumerate(self.heads) if in_layer == layer]

    def check(self, lm: LanguageModel) -> None:
        name = type(self).__name__
        check_heads(f"{name}.heads", self.heads, lm)
        self._check_values(lm, name)
        for number, named in enumerate(self.heads):
            check_finite(f"{name}.values of head {named[0]}.{named[1]}", self.value(number, lm.head_dim), lm)

    def _check_values(self, lm: LanguageModel, name: str) -> None:
        """Check that the values are a number, or a tensor with values for all heads or for the named ones."""
        values = self.values
        of_named, of_all = (len(self.heads), lm.head_dim), (lm.n_layers, lm.n_heads, lm.head_dim)
        if isinstance(values, int | float) and not isinstance(values, bool):
            return
        check_floating(f"{name}.values", values)
        shape = tuple(torch.as_tensor(values).shape)
        if shape not in ((), of_named, of_all):
            raise ConfigError(
                f"{name}.values has the shape {shape}, where a number is due, or {of_named}, one for each of the heads "
                f"named, or {of_all}, one for every head."
            )
        if len(shape) == 2 and len({*self.heads}) < len(self.heads):
            raise ConfigError(f"{name}.heads names a head twice, which would have two values: name each once.")


class Named(NamedTuple):
    """Heads of a layer that edits name.

    Attributes:
        rows: the row of each, (n_named,).
        numbers: its number among the heads of its edit.
        heads: its number in the layer.
        values: its value, (n_named, head_dim).
    """

    rows: list[int]
    numbers: list[int]
    heads: list[int]
    values: Tensor


def named_in(edits: Sequence[HeadValues], layer: int, hidden: Tensor) -> Named:
    """The heads of a layer that edits name, one edit per row of `hidden`, (…, n_heads, head_dim)."""
    found = [(row, number) for row, edit in enumerate(edits) for number in edit.numbers_in(layer)]
    values = torch.stack([edits[row].value(number, hidden.shape[-1]) for row, number in found]).to(hidden)
    heads = [edits[row].heads[number][1] for row, number in found]
    return Named([row for row, _ in found], [number for _, number in found], heads, values)
