"""Ranges of settings: read from the types of the fields, shown in words, and checked.

The type of a setting has its range as markers of `annotated_types`:

    k: Annotated[int, Ge(1)] = 10                                 # 1 or more
    n_trials: Annotated[int, Ge(1)] | None = None                 # 1 or more, or null
    workers: list[Annotated[int, Ge(1)]] = field(...)             # each number 1 or more

A subclass that changes only the default of a setting keeps the range of its base class.
"""

import functools
import numbers
import operator
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt

from fv.errors import ConfigError

Bound = Ge | Gt | Le | Lt


class Meaning(NamedTuple):
    """A kind of bound: the attribute of its number, its comparison, and its words."""

    attribute: str
    holds: Callable[[Any, Any], bool]
    words: str


MEANINGS: dict[type[Bound], Meaning] = {
    Ge: Meaning("ge", operator.ge, "{} or more"),
    Gt: Meaning("gt", operator.gt, "above {}"),
    Le: Meaning("le", operator.le, "{} or less"),
    Lt: Meaning("lt", operator.lt, "below {}"),
}


class Range(NamedTuple):
    """The range of a number, or of each number in a list."""

    bounds: tuple[Bound, ...]
    of_each: bool = False
    or_null: bool = False

    @property
    def words(self) -> str:
        """The range in words: `1 or more`, or `each above 0 and below 1`."""
        words = " and ".join(meaning.words.format(_shown(number)) for meaning, number in self._meanings())
        return f"each {words}" if self.of_each else words

    def takes(self, value: Any) -> bool:
        """True if a value is in the range."""
        if value is None:
            return self.or_null
        if self.of_each:
            return isinstance(value, list | tuple) and all(map(self._has, value))
        return self._has(value)

    def _has(self, value: Any) -> bool:
        is_number = isinstance(value, numbers.Real)
        return is_number and all(meaning.holds(value, number) for meaning, number in self._meanings())

    def _meanings(self) -> Iterator[tuple[Meaning, Any]]:
        for bound in self.bounds:
            meaning = MEANINGS[type(bound)]
            yield meaning, getattr(bound, meaning.attribute)


@functools.cache
def ranges_of(schema: type) -> dict[str, Range]:
    """{setting: its range} of the settings of a class that have a range."""
    found: dict[str, Range] = {}
    for own in reversed(schema.__mro__):
        for name, kind in typing.get_type_hints(own, include_extras=True).items():
            if (given := _range_of(kind)) is not None:
                found[name] = given
    return found


def check_ranges(settings: Any, called: Callable[[str], str] = str) -> None:
    """Refuse a number outside its range.

    Args:
        settings: a dataclass of settings.
        called: gives the name of a setting in messages.

    Raises:
        ConfigError: a number is outside its range; the message names the setting and the range.
    """
    schema: type = type(settings)
    for name, own in ranges_of(schema).items():
        if not own.takes(value := getattr(settings, name)):
            shown = value if isinstance(value, numbers.Real) else repr(value)
            due = f"numbers, {own.words}" if own.of_each else own.words
            raise ConfigError(f"{called(name)}={shown} must be {due}.")


def _range_of(kind: Any) -> Range | None:
    """The range in a type; None if it has none."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated and (bounds := tuple(_bounds(kind.__metadata__))):
        return Range(bounds)
    inner = next((found for each in arguments if (found := _range_of(each)) is not None), None)
    if inner is None or origin is Annotated:
        return inner
    if origin in (typing.Union, types.UnionType):
        return inner._replace(or_null=types.NoneType in arguments)
    return inner._replace(of_each=True) if origin is list else None


def _bounds(markers: Iterable[Any]) -> Iterator[Bound]:
    """Iterate over the bounds among markers, including those in an `Interval`."""
    for marker in markers:
        if isinstance(marker, GroupedMetadata):
            yield from _bounds(marker)
        elif isinstance(marker, Bound):
            yield marker


def _shown(number: Any) -> str:
    """A number as text: `2**64` for a large power of two."""
    is_power = isinstance(number, int) and number >= 2**32 and number.bit_count() == 1
    return f"2**{number.bit_length() - 1}" if is_power else str(number)
