"""Algebra of vectors: sums and multiples of vectors of one model."""

from typing import Any, NamedTuple

from torch import Tensor

from fv.config.checks import check_strength
from fv.data.origin import Origin
from fv.errors import ConfigError, warn
from fv.models.identity import sentence


class Term(NamedTuple):
    """Vector in a sum: its name, its values, (d_model,) or (n_layers, d_model), and its origin."""

    name: str
    values: Tensor
    origin: Origin | None


def sum_of_values(one: Term, other: Term, sign: str) -> Tensor:
    """Sum of two vectors' values, or their difference if `sign` is `-`; a vector of all layers is added to each.

    Raises:
        ConfigError: the vectors have different widths or numbers of layers.
    """
    widths = [vector.values.shape[-1] for vector in (one, other)]
    if widths[0] != widths[1]:
        raise _unfit(one, other, sign, f"they are {widths[0]} and {widths[1]} wide")
    layers = [len(vector.values) for vector in (one, other) if vector.values.ndim == 2]
    if len({*layers}) > 1:
        raise _unfit(one, other, sign, f"they have vectors for {layers[0]} and {layers[1]} layers")
    return one.values + other.values if sign == "+" else one.values - other.values


def scaled_values(values: Tensor, factor: Any) -> Tensor:
    """Values times a number.

    Raises:
        ConfigError: the factor is not a finite number.
    """
    check_strength("factor", factor)
    return float(factor) * values


def shared_origin(one: Term, other: Term) -> Origin | None:
    """Origin of a sum: that of the first vector that has one.

    Raises:
        ConfigError: the vectors come from different models or tokenizers.

    Warns:
        FvWarning: the vectors come from prompts of different forms.
    """
    own, there = one.origin, other.origin
    if own is None or there is None:
        return own or there
    if found := own.identity.differences(there.identity):
        told = sentence(f"{one.name} is", found)
        raise ConfigError(f"{told} {one.name} and {other.name} cannot be added: make both with one model.")
    if prompts := own.other_prompts(there):
        warn(f"{sentence(f'{one.name} is', prompts)} Its sum with {other.name} counts as one of {one.name}'s prompts.")
    return own


def shown(name: str) -> str:
    """A name as an operand of a product: in brackets if it is a sum."""
    return f"({name})" if " + " in name or " - " in name else name


def _unfit(one: Term, other: Term, sign: str, why: str) -> ConfigError:
    return ConfigError(f"{one.name} {sign} {other.name}: {why}. Vectors of one model can be added.")
