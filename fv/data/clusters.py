"""Clusters of relations: relations about the same words, which are not independent cases (spec section 5)."""

import csv
import io
from pathlib import Path

from fv.config import DataConfig
from fv.data.importers import CLUSTERS_FILE, decoded
from fv.errors import RelationError, shorten
from fv.shipped import shipped

COLUMNS = ("q_id", "cluster")
"""Names of the columns of a file of clusters."""
MAX_PROBLEMS = 10


def configured_clusters(data: DataConfig, source: Path) -> dict[str, str]:
    """Read the clusters from `clusters_path`, or else from the `clusters.csv` beside a relation file or in its folder.

    Args:
        data: the settings.
        source: the file or folder that the relations were read from.

    Returns:
        {q_id: cluster}, empty if there is no file; it may name relations that were not read.

    Raises:
        RelationError: there is no file at `clusters_path`, or the file found cannot be read as clusters.
    """
    name = data.called("clusters_path")
    if data.clusters_path is not None:
        for path in (Path(data.clusters_path), shipped(data.clusters_path)):
            if path.is_file():
                return read_clusters(path)
        raise RelationError(f"There is no CSV of clusters at {Path(data.clusters_path).absolute()}. Set {name}.")
    beside = (source if source.is_dir() else source.parent) / CLUSTERS_FILE
    if beside == source or not beside.is_file():
        return {}
    try:
        return read_clusters(beside)
    except RelationError as error:
        raise RelationError(
            f"{error}\nIt was read for its name; if it holds no clusters, rename it, or say {name}=<another CSV>."
        ) from None


def read_clusters(path: Path) -> dict[str, str]:
    """Read a CSV with the columns `q_id` and `cluster`; other columns are ignored.

    Returns:
        {q_id: cluster}, in the file's order.

    Raises:
        RelationError: the file is not UTF-8, is not CSV, lacks a column, or has bad rows: an empty cell, another number
            of cells than the header, or a repeated q_id. All bad rows are named with their line numbers.
    """
    reader = csv.reader(io.StringIO(decoded(path, path.read_bytes()), newline=""), strict=True)
    found: dict[str, str] = {}
    lines: dict[str, int] = {}
    bad: list[str] = []
    start = 1  # the line on which the record being read begins
    try:
        header = next(reader, [])
        wrong = [name for name in COLUMNS if header.count(name) != 1]
        if wrong:
            raise RelationError(
                f"{path}, line 1, must have each of the columns {', '.join(COLUMNS)} once; its columns are: "
                f"{shorten(header, 40) or 'none'}."
            )
        q, c = map(header.index, COLUMNS)
        start = reader.line_num + 1
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not any(map(str.strip, cells)):
                continue
            if len(cells) != len(header):
                bad.append(f"line {line}: {len(cells)} cells, where the header has {len(header)}")
            elif empty := [name for name, i in zip(COLUMNS, (q, c), strict=True) if not cells[i].strip()]:
                bad.append(f"line {line}: column {', '.join(empty)} is empty")
            elif cells[q] in found:
                bad.append(f"line {line}: {cells[q]} is there already, on line {lines[cells[q]]}")
            else:
                found[cells[q]], lines[cells[q]] = cells[c], line
    except csv.Error as error:
        raise RelationError(f"{path}: the row that begins on line {start} is not CSV: {error}.") from None
    if bad:
        more = [f"… and {len(bad) - MAX_PROBLEMS} more"] * (len(bad) > MAX_PROBLEMS)
        raise RelationError(f"{path} has bad rows:\n  " + "\n  ".join([*bad[:MAX_PROBLEMS], *more]))
    return found
