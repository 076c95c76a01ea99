"""What one unit of a relation is computed from: some of its prompts, and what is run on them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from fv.interventions.engine import Head
from fv.units import UnitName

Key = TypeVar("Key")
Found = TypeVar("Found")


class Kind(StrEnum):
    """What is run on prompts."""

    clean = "clean"
    """The clean prompts, whose head outputs are averaged."""
    zero_shot = "zero_shot"
    """The zero-shot prompts."""
    corrupted = "corrupted"
    """Corrupted prompts in which no head is patched."""
    screen = "screen"
    """Corrupted prompts, with all effects estimated."""
    effects = "effects"
    """Corrupted prompts, with heads patched one at a time."""

    @property
    def prompts(self) -> str:
        """The prompts that it is run on: `clean`, `corrupted` or `zero_shot`."""
        return self.value if self in (Kind.clean, Kind.zero_shot) else "corrupted"


@dataclass(frozen=True)
class Piece:
    """Prompts of a relation, and what is run on them.

    Attributes:
        kind: what is run.
        q_id: the relation.
        start: the place of the first one among the prompts of the relation's fit trials.
        stop: the place behind the last one; None for all that there are.
        heads: the heads that are patched; empty for all that the run sweeps.
    """

    kind: Kind
    q_id: str
    start: int = 0
    stop: int | None = None
    heads: tuple[Head, ...] = ()

    @property
    def name(self) -> UnitName:
        """What its unit is called."""
        return UnitName(self.kind.value, self.q_id)

    def part(self, part: slice) -> "Piece":
        """Some of its prompts, by their places among them."""
        return replace(self, start=self.start + part.start, stop=self.start + part.stop)


class PiecesMissingError(Exception):
    """There are no units of some pieces, and they were not to be computed here.

    Attributes:
        pieces: these.
    """

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self.pieces = list(pieces)
        super().__init__(f"{len(self.pieces)} pieces")


def of_each(keys: Iterable[Key], find: Callable[[Key], Found]) -> dict[Key, Found]:
    """What `find` gives for each key.

    Raises:
        PiecesMissingError: of all keys together.
    """
    found: dict[Key, Found] = {}
    missing: list[Piece] = []
    for key in keys:
        try:
            found[key] = find(key)
        except PiecesMissingError as error:
            missing += error.pieces
    if missing:
        raise PiecesMissingError(missing)
    return found


def units_of(batches: Sequence[slice], size: int) -> list[slice]:
    """Whole batches, one after the other, joined to units of `size` trials or just above."""
    found: list[slice] = []
    for batch in batches:
        if found and found[-1].stop - found[-1].start < size:
            found[-1] = slice(found[-1].start, batch.stop)
        else:
            found.append(batch)
    return found
