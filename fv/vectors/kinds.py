"""Kinds of vectors: the heads that a vector is made of, the relations that it depends on, and the mark in its name.

A vector of a maker has the maker's name as its kind, and the name `<relation>@<maker>`.
"""

from dataclasses import dataclass
from enum import StrEnum

from fv.vectors.makers import maker_classes


class HeadsBy(StrEnum):
    """Choice of a vector's heads."""

    own = "own"
    """The best heads by the relation's own effects."""
    aie = "aie"
    """The best heads by the AIE."""
    named = "named"
    """Heads that the caller names."""
    unknown = "unknown"
    """Heads that are not known: the vector was read or given."""
    none = "none"
    """No heads: the vector is a maker's, or a sum."""


@dataclass(frozen=True)
class VectorKind:
    """A kind of vectors.

    Attributes:
        name: its name in tables and files.
        mark: the end of its vectors' names, after the relation's name; None if they are not named after a relation.
        heads_by: the choice of its heads.
        of_others: True if a vector is computed from other relations of the run, too.
        may_know_others: True if prompts of other relations may have decided a vector.
    """

    name: str
    mark: str | None
    heads_by: HeadsBy
    of_others: bool
    may_know_others: bool

    @property
    def of_relation(self) -> bool:
        """True if each vector belongs to a relation, after which it is named."""
        return self.mark is not None

    @property
    def has_heads(self) -> bool:
        """True if the heads of a vector are known."""
        return self.heads_by in (HeadsBy.own, HeadsBy.aie, HeadsBy.named)


OWN = VectorKind("qid", "", HeadsBy.own, of_others=False, may_know_others=False)
"""A relation's own best heads and means."""
OF_AIE = VectorKind("aie_qid", "@aie", HeadsBy.aie, of_others=True, may_know_others=True)
"""The AIE's heads with a relation's means."""
NAMED = VectorKind("heads", "@heads", HeadsBy.named, of_others=False, may_know_others=True)
"""Heads named by the caller with a relation's means."""
GLOBAL = VectorKind("global", None, HeadsBy.aie, of_others=True, may_know_others=True)
"""The AIE's heads with the mean over relations."""
FILE = VectorKind("file", None, HeadsBy.unknown, of_others=False, may_know_others=True)
"""A vector of unknown origin."""
SUM = VectorKind("sum", None, HeadsBy.none, of_others=True, may_know_others=True)
"""A sum or a multiple of vectors."""
KINDS = {kind.name: kind for kind in (OWN, OF_AIE, NAMED, GLOBAL, FILE, SUM)}
"""{name: kind} of all kinds except those of makers."""


def kind_of(name: str) -> VectorKind:
    """The kind of this name: one of `KINDS`, or else a maker's, which need not be installed."""
    if name in KINDS:
        return KINDS[name]
    maker = maker_classes().get(name)
    of_others = maker is None or maker.of_others
    return VectorKind(name, f"@{name}", HeadsBy.none, of_others, of_others)
