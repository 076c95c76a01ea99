"""Rooms of the code: the imports that each room may have, the imports that run up, and docs/architecture.md's picture.

    python scripts/architecture.py            # draw the picture and the table of rooms into the page
    python scripts/architecture.py --check    # change nothing; exit 1 if the page is out of date
    python scripts/architecture.py --count    # print the numbers of rooms, files, arrows, floors and climbs

`imports.py` defines an import, and `climbs.py` defines a climb.
"""

import argparse
import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

from climbs import settings_calls
from imports import HYDRA, Import, floors, graph_of, read_imports, read_modules, reduced

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path("docs", "architecture.md")
BEGIN, END = "<!-- drawn by scripts/architecture.py -->", "<!-- end of the drawing -->"
START = "fv.steps.step6.run_step6"

LEAVES = (
    "characters",
    "errors",
    "seeding",
    "progress",
    "display",
    "markup",
    "shipped",
    "files",
    "tables",
    "registry",
    "collector",
    "dealing",
)
ROOMS = (
    *LEAVES,
    "figures",
    "config",
    "work",
    "cluster",
    "statistics",
    "models",
    "data",
    "interventions",
    "heads",
    "vectors",
    "evaluation",
    "pricing",
    "runs",
    "analyses",
    "steps",
    "report",
    "fv",
    "entrypoints",
)
"""All rooms, lowest first: the folders and files of `fv/`; `fv` itself, the public face; and `entrypoints`."""


def _below(room: str) -> frozenset[str]:
    return frozenset(ROOMS[: ROOMS.index(room)])


_GROUND = frozenset({*LEAVES, "config", "work", "statistics"})
MAY_IMPORT: Mapping[str, frozenset[str]] = {
    **{leaf: _below(leaf) for leaf in LEAVES},
    "config": frozenset(LEAVES),
    "work": frozenset(LEAVES),
    "cluster": frozenset({*LEAVES, "config"}),
    "statistics": frozenset({*LEAVES, "config"}),
    "models": _GROUND,
    "data": _GROUND | {"models"},
    "interventions": _GROUND | {"models"},
    "heads": _GROUND | {"figures", "models", "data", "interventions"},
    "vectors": _GROUND | {"models", "data", "interventions", "heads"},
    "evaluation": _GROUND | {"figures", "models", "data", "interventions", "heads", "vectors"},
    "pricing": _GROUND | {"models", "data", "interventions", "heads", "vectors", "evaluation"},
    "runs": _below("runs") - {"figures", "pricing"},
    "figures": frozenset(),
    "analyses": _below("analyses"),
    "steps": _below("steps"),
    "report": _below("report") - {"analyses", "steps"},
    "fv": _below("fv"),
    "entrypoints": _below("entrypoints") | {HYDRA},
}
"""{room: the rooms that it may import}; all of them are below it."""


def room_of(name: str) -> str:
    """The room of a module: the first level under `fv`, or another package. `conf` belongs to `entrypoints`."""
    top, *rest = name.split(".")
    if top == "fv":
        return rest[0] if rest else "fv"
    return "entrypoints" if top == "conf" else top


def violations(found: Iterable[Import]) -> list[Import]:
    """Find the imports that run up: from a room into a room that its row of `MAY_IMPORT` does not name.

    A room that is not in the table may import nothing, and no room may import it; `unplaced` names such rooms.
    """
    rooms = [(each, room_of(each.importer), room_of(each.imported)) for each in found]
    return [each for each, own, other in rooms if own != other and other not in MAY_IMPORT.get(own, ())]


def unplaced(root: Path) -> list[str]:
    """Find the rooms of the code that are not in `ROOMS`."""
    return sorted({room_of(name) for name in read_modules(root)} - {*ROOMS})


def drawing(root: Path) -> str:
    """Draw the picture in Mermaid, and the table of the rooms in Markdown."""
    modules = read_modules(root)
    rooms = [room for room in ROOMS if room in {room_of(name) for name in modules}]
    leaves = [room for room in rooms if room in LEAVES]
    boxes = [*(room for room in reversed(rooms) if room not in LEAVES), "leaves"]

    def box_of(name: str) -> str:
        return "leaves" if room_of(name) in LEAVES else room_of(name)

    graph = reduced(graph_of(read_imports(root), modules, box_of))
    lines = ["```mermaid", "flowchart TB", f'    leaves["{" · ".join(leaves)}"]']
    lines += [f"    {own} --> {other}" for own in boxes for other in boxes if other in graph.get(own, ())]
    lines += ["```", "", "| room | what lives there |", "|---|---|"]
    for room in rooms:
        module = modules[room if room in modules else f"fv.{room}"]
        place = module.path if room == "fv" or module.path.name != "__init__.py" else module.path.parent
        purpose = (ast.get_docstring(module.tree) or "").partition("\n")[0].replace("|", "\\|")
        lines.append(f"| [`{room}`](../{place.as_posix()}) | {purpose} |")
    return "\n".join(lines)


def drawn(page: str, picture: str) -> str:
    """Put the picture between the page's two markers.

    Raises:
        ValueError: the page does not have both markers exactly once.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"{PAGE.as_posix()} needs one line `{BEGIN}` and, below it, one line `{END}`.")
    return f"{page.split(BEGIN)[0]}{BEGIN}\n\n{picture}\n\n{END}{page.split(END)[1]}"


def counts(root: Path) -> dict[str, int]:
    """Count {what: number}. Each leaf counts as a room, and an arrow is a pair with one import or more."""
    modules, found = read_modules(root), read_imports(root)
    files, rooms = graph_of(found, modules), graph_of(found, modules, room_of)
    up = {(room_of(each.importer), room_of(each.imported)) for each in violations(found)}
    file_floors, room_floors = floors(files), floors(rooms)
    calls = settings_calls(modules, START)
    return {
        "rooms": len(rooms),
        "rooms that are not in the table": len(unplaced(root)),
        "arrows between rooms": sum(map(len, rooms.values())),
        "arrows that run up, between rooms of the table": sum({*pair} <= {*ROOMS} for pair in up),
        "floors of rooms": max(room_floors.values()),
        "files": len(files),
        "arrows between files": sum(map(len, files.values())),
        "floors of files": max(file_floors.values()),
        "climbs of config in run_step6, by floors of rooms": sum(
            room_floors[room_of(own)] != room_floors[room_of(other)] for own, other in calls
        ),
        "climbs of config in run_step6, by floors of files": sum(
            file_floors[own] != file_floors[other] for own, other in calls
        ),
        "rooms that config goes through": len({room_of(name) for call in calls for name in call}),
    }


def main() -> None:
    """Draw, check or count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--check", action="store_true", help="exit 1 if the page is out of date")
    which.add_argument("--count", action="store_true", help="print the numbers of rooms, files, arrows and climbs")
    arguments = parser.parse_args()
    if arguments.count:
        for what, number in counts(ROOT).items():
            print(f"{number:5}  {what}")
        return
    before = (ROOT / PAGE).read_text(encoding="utf-8")
    after = drawn(before, drawing(ROOT))
    if not arguments.check:
        (ROOT / PAGE).write_text(after, encoding="utf-8")
    elif after != before:
        raise SystemExit(f"{PAGE.as_posix()} is out of date: run python scripts/architecture.py.")


if __name__ == "__main__":
    main()
