"""Relations: the (exA, exB) pairs of each `q_id` in a file (spec sections 1, 3.1 and 7)."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from fv.characters import visible
from fv.collector import paused_collector
from fv.config import DataConfig, Form
from fv.data.clusters import configured_clusters
from fv.data.importers import read_table
from fv.data.rows import Table
from fv.errors import RelationError, shorten
from fv.markup import html_table
from fv.shipped import shipped

MAX_PROBLEMS = 10


class Pair(NamedTuple):
    """One row of a relation: an input and its right output.

    Example:
        >>> fv.Pair("hot", "cold").exB
        'cold'
    """

    exA: str  # noqa: N815 - the contract's own names
    exB: str  # noqa: N815


@dataclass(frozen=True)
class Relation:
    """One task type and its distinct pairs, in file order.

    Attributes:
        q_id: its name.
        pairs: distinct pairs.
        n_duplicates: rows that repeated an earlier pair.
        n_one_to_many: inputs that have several outputs.
        cluster: the name that it shares with the relations about the same words; None if it is in no cluster.

    Example:
        >>> relation = fv.read_relations(names=["antonym"])["antonym"]
        >>> relation.pairs[0]
        Pair(exA='above', exB='below')
    """

    q_id: str
    pairs: tuple[Pair, ...]
    n_duplicates: int
    n_one_to_many: int
    cluster: str | None = None

    def __repr__(self) -> str:
        first = " → ".join(self.pairs[0]).replace("\n", "⏎") if self.pairs else "none"
        shown = first if len(first) <= 60 else f"{first[:60]}…"
        return visible(f"Relation({self.q_id}: {len(self.pairs)} pairs, the first {shown})")


@dataclass(frozen=True, eq=False)
class Relations(Mapping[str, Relation]):
    """Relations by name, sorted, from a file or from memory.

    Attributes:
        path: the file or folder that they come from.
        sha256: digest of what was read.
        relations: the relations.

    Example:
        >>> relations = fv.read_relations(names=["antonym", "verb_past"])
        >>> {name: len(relation.pairs) for name, relation in relations.items()}
        {'antonym': 212, 'verb_past': 246}
    """

    path: Path
    sha256: str
    relations: tuple[Relation, ...]

    def __getitem__(self, q_id: str) -> Relation:
        for relation in self.relations:
            if relation.q_id == q_id:
                return relation
        raise KeyError(f"There is no relation {q_id!r}; there are {shorten(list(self), 40)}.")

    def __iter__(self) -> Iterator[str]:
        return (relation.q_id for relation in self.relations)

    def __len__(self) -> int:
        return len(self.relations)

    def __repr__(self) -> str:
        return visible(f"Relations({shorten([f'{q_id}: {len(own.pairs)} pairs' for q_id, own in self.items()], 40)})")

    def _repr_html_(self) -> str:
        rows = ((q_id, len(own.pairs), " → ".join(own.pairs[0])) for q_id, own in self.items())
        return html_table(("relation", "pairs", "the first"), rows)

    def warnings(self) -> list[str]:
        """Lines on relations with repeated pairs or ambiguous inputs."""
        lines = []
        for relation in self.relations:
            if relation.n_duplicates:
                lines.append(f"{relation.q_id}: {relation.n_duplicates} duplicate pairs; each is used once.")
            if relation.n_one_to_many:
                lines.append(f"{relation.q_id}: {relation.n_one_to_many} inputs have several outputs.")
        return lines


def normalise(text: str) -> str:
    """The form under which two strings count as the same: NFKC, case-folded, single spaces."""
    if text.isascii():  # then NFKC changes nothing, and case-folding is lower case
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def read_configured(data: DataConfig) -> Relations:
    """Read the file that `data` names, and keep the relations that it requests.

    Raises:
        RelationError: the file is missing, not UTF-8, lacks a column or has bad rows (all named with their line
            numbers); a wanted q_id is absent; `strict` and there are duplicates or ambiguous inputs; a file of clusters
            cannot be read.
    """
    table = read_rows(data)
    if table.bad:
        raise RelationError(bad_rows(table, MAX_PROBLEMS))
    file = in_clusters(relations_of(table, data.qids), configured_clusters(data, table.path))
    if data.strict and file.warnings():
        strict = f"{data.called('strict')}=true"
        raise RelationError(f"{file.path} is refused because {strict}:\n  " + "\n  ".join(file.warnings()))
    return file


@paused_collector()
def read_rows(data: DataConfig) -> Table:
    """Read the rows of `path`, or of `relation_csv_path` as CSV, usable and bad ones.

    Raises:
        RelationError: there is no such file, or it cannot be read as a table at all.
    """
    if data.path is None:
        csv = _find(data.relation_csv_path, "relation CSV", data.called("relation_csv_path"))
        name = f"{data.called('path')}={data.relation_csv_path} {data.called('form')}"
        return read_table(csv, data.columns, Form.csv, name, data.include, data.called("include"))
    path = _find(data.path, "file or folder", data.called("path"), or_folder=True)
    return read_table(path, data.columns, data.form, data.called("form"), data.include, data.called("include"))


def bad_rows(table: Table, limit: int) -> str:
    """The message about a table's bad rows; it names the first `limit` of them."""
    lines = [str(bad) for bad in table.bad[:limit]]
    if len(table.bad) > limit:
        lines.append(f"… and {len(table.bad) - limit} more")
    return f"{table.path} has bad rows:\n  " + "\n  ".join(lines)


@paused_collector()
def relations_of(table: Table, qids: list[str] | None) -> Relations:
    """Group a table's rows into relations.

    Raises:
        RelationError: there are no rows, or a wanted q_id is absent.
    """
    if not table.rows:
        raise RelationError(f"{table.path} has a header and no rows.")
    by_qid: dict[str, list[Pair]] = defaultdict(list)
    for row in table.rows:
        by_qid[row.q_id].append(Pair(row.exA, row.exB))
    wanted = sorted(by_qid) if qids is None else qids
    unknown = [q for q in wanted if q not in by_qid]
    if unknown:
        raise RelationError(f"{table.path} has no relation {shorten(unknown)}. It has: {shorten(sorted(by_qid), 40)}.")
    return Relations(table.path, table.sha256, tuple(_relation(q, by_qid[q]) for q in wanted))


def in_clusters(relations: Relations, clusters: Mapping[str, str]) -> Relations:
    """The relations, each with its cluster by `clusters` ({q_id: cluster}), or None."""
    own = (replace(relation, cluster=clusters.get(relation.q_id)) for relation in relations.relations)
    return replace(relations, relations=tuple(own))


def _find(given: str, what: str, name: str, or_folder: bool = False) -> Path:
    """The path `given`, or the file of that name that ships with the library if there is none here."""
    for path in (Path(given), shipped(given)):
        if path.is_file() or (or_folder and path.is_dir()):
            return path
    raise RelationError(f"There is no {what} at {Path(given).absolute()}. Set {name}.")


def _relation(q_id: str, pairs: list[Pair]) -> Relation:
    distinct = tuple(dict.fromkeys(pairs))
    return Relation(q_id, distinct, len(pairs) - len(distinct), _count_ambiguous(distinct))


def _count_ambiguous(pairs: Iterable[Pair]) -> int:
    first: dict[str, str] = {}
    ambiguous: set[str] = set()
    for pair in pairs:
        key = normalise(pair.exA)
        other = first.setdefault(key, pair.exB)
        if other != pair.exB and key not in ambiguous and normalise(other) != normalise(pair.exB):
            ambiguous.add(key)
    return len(ambiguous)
