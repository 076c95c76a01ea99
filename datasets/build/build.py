"""Build the default relations from installed packages: `python datasets/build/build.py [--out FILE]`.

Prints what differs from the committed file, and exits with 1 if anything does. Needs the extra `[data]`.
"""

import argparse
import csv
import io
import sys
import unicodedata
from collections import defaultdict
from pathlib import Path

import algorithmic  # noqa: F401 - registers its relations
import sources as src
from relations import RECIPES, Recipe, chosen, dropped

DEFAULT = Path(__file__).resolve().parent.parent / "relation" / "default.csv"
MOST = 250
"""Pairs of a relation that chooses its inputs by rule: the first, which are the most common."""


def build() -> str:
    """The default file's text.

    Raises:
        ValueError: a source no longer gives the output of a reviewed input.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("q_id", "exA", "exB"))
    for q_id in sorted(RECIPES):
        writer.writerows((q_id, a, b) for a, b in sorted(pairs_of(q_id, RECIPES[q_id])))
    return text.getvalue()


def pairs_of(q_id: str, recipe: Recipe) -> list[tuple[str, str]]:
    """A relation's pairs after all filters."""
    outputs: dict[str, list[str]] = defaultdict(list)
    for pair in recipe.make():
        a, b = (unicodedata.normalize("NFC", text).replace("’", "'") for text in pair)
        if b not in outputs[a]:
            outputs[a].append(b)
    return _reviewed(q_id, outputs) if recipe.reviewed else _by_rule(q_id, outputs)


def _reviewed(q_id: str, outputs: dict[str, list[str]]) -> list[tuple[str, str]]:
    pairs = []
    for a, choice in chosen(q_id).items():
        found = outputs.get(a, [])
        if not found or (choice and choice not in found):
            raise ValueError(f"{q_id}: {a!r} should give {choice or 'an output'}, and its source gives {found}.")
        if len(found) > 1 and not choice:
            raise ValueError(f"{q_id}: {a!r} gives {found}; choose one in inputs.csv.")
        pairs.append((a, choice or found[0]))
    return pairs


def _by_rule(q_id: str, outputs: dict[str, list[str]]) -> list[tuple[str, str]]:
    """One-word answers of unambiguous inputs, without identities, reversed pairs and profanity."""
    kept: dict[str, str] = {}
    for a, found in outputs.items():
        if a in dropped(q_id):
            continue
        b = found[0]
        words = {*a.lower().replace(",", " ").split(), *b.lower().split()}
        clean = not words & src.profanity() and b and "(" not in a + b and not any(map(str.isspace, b))
        if len(found) == 1 and clean and a != b and kept.get(b) != a:
            kept[a] = b
    return list(kept.items())[:MOST]


def difference(old: str, new: str) -> list[str]:
    """One line a relation whose rows are not the same."""
    # Rows only: the order, the line ends and the quotes are the bytes' business.
    before, after = ({tuple(row) for row in csv.reader(io.StringIO(text))} for text in (old, new))
    lines = []
    for q_id in sorted({row[0] for row in before ^ after}):
        gone = sorted(row[1:] for row in before - after if row[0] == q_id)
        come = sorted(row[1:] for row in after - before if row[0] == q_id)
        lines.append(f"{q_id}: {len(come)} pairs new {come[:3]}, {len(gone)} gone {gone[:3]}")
    return lines or ([] if old == new else ["The same rows in other bytes."])


def main() -> None:
    """Build, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None, help="write the file here")
    out = parser.parse_args().out
    built = build()
    lines = difference(DEFAULT.read_text(encoding="utf-8"), built)
    if out is not None:
        out.write_bytes(built.encode())
    print("\n".join(lines) or f"{DEFAULT} is what the sources give, byte for byte.")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
