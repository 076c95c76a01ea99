"""The rooms of the code: imports run down only, however they are written, and the page shows what the code is."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from architecture import LEAVES, MAY_IMPORT, PAGE, ROOMS, counts, drawing, drawn, room_of, unplaced, violations
from climbs import settings_calls
from commands import ROOT
from hypothesis import given
from hypothesis import strategies as st
from imports import HYDRA, Graph, Import, floors, graph_of, reach, read_imports, read_modules, reduced

Toy = Callable[[dict[str, str]], Path]


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """Write a project of the given files; each room has a `steps`, `heads` and `config` of its own."""

    def write(files: dict[str, str]) -> Path:
        rooms = {f"fv/{room}/__init__.py": f'"""What {room} is for."""' for room in ("steps", "heads", "config")}
        face = {"fv/__init__.py": '"""The face."""', "fv/errors.py": '"""The errors."""\n'}
        for name, text in {**face, **rooms, "fv/steps/step6.py": "", **files}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    return write


@pytest.fixture(scope="module")
def own_imports() -> list[Import]:
    """The project's own."""
    return read_imports(ROOT)


@pytest.fixture(scope="module")
def own_drawing() -> str:
    return drawing(ROOT)


def up(root: Path) -> list[tuple[str, str, int]]:
    """(importer, imported, line) of what runs up."""
    return [(each.importer, each.imported, each.line) for each in violations(read_imports(root))]


# The project itself


def test_no_import_runs_up(own_imports: list[Import]) -> None:
    assert not [str(each) for each in violations(own_imports)]


def test_every_room_is_in_the_table() -> None:
    assert unplaced(ROOT) == []


def test_the_page_shows_the_rooms_as_they_are(own_drawing: str) -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert page == drawn(page, own_drawing), "run python scripts/architecture.py"


def test_every_room_says_what_lives_there(own_drawing: str) -> None:
    assert not [line for line in own_drawing.splitlines() if line.endswith("|  |")]


def test_the_library_imports_neither_hydra_nor_the_entrypoints(own_imports: list[Import]) -> None:
    found = [each for each in own_imports if each.importer.split(".")[0] == "fv"]
    assert found
    assert not [str(each) for each in found if each.imported.split(".")[0] in (HYDRA, "entrypoints")]


def test_no_files_import_one_another_in_a_circle(own_imports: list[Import]) -> None:
    reached = reach(graph_of(own_imports, read_modules(ROOT)))
    assert reached and not [name for name, others in reached.items() if name in others]


# The table


def test_the_table_has_a_row_a_room_and_lets_none_import_what_is_above_it() -> None:
    assert set(MAY_IMPORT) == set(ROOMS)
    for i, room in enumerate(ROOMS):
        assert MAY_IMPORT[room] - {HYDRA} <= set(ROOMS[:i]), room


def test_figures_import_nothing_leaves_only_leaves_and_hydra_is_for_entrypoints_alone() -> None:
    assert not MAY_IMPORT["figures"]
    assert all(MAY_IMPORT[leaf] <= set(LEAVES) for leaf in LEAVES)
    assert [room for room in ROOMS if HYDRA in MAY_IMPORT[room]] == ["entrypoints"]


@pytest.mark.parametrize("own", ROOMS)
def test_an_import_is_refused_unless_the_table_names_it(own: str) -> None:
    for other in (*ROOMS, "attic"):
        ends = [room if room in ("fv", "entrypoints") else f"fv.{room}" for room in (own, other)]
        refused = violations([Import(ends[0], ends[1], Path("x.py"), 1, "")])
        assert bool(refused) == (own != other and other not in MAY_IMPORT[own]), other


# Ways to import, in projects made for it

UP = {
    "at the top": "from fv.steps import step6",
    "of a name": "from fv.steps.step6 import run_step6",
    "as a whole": "import fv.steps.step6",
    "in several lines": "from fv.steps.step6 import (\n    run_step6,\n)",
    "in a function": "def f():\n    from fv.steps.step6 import run_step6",
    "in a method of a class in a function": (
        "def f():\n    class A:\n        def g(self):\n            import fv.steps.step6"
    ),
    "for types only": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fv.steps.step6 import run_step6",
    "if it can": "try:\n    import fv.steps.step6\nexcept ImportError:\n    pass",
    "relative": "from ..steps.step6 import run_step6",
    "relative, of a module": "from ..steps import step6",
    "relative, in a function": "async def f():\n    from ..steps import step6",
    "by its name": "import importlib\nstep = importlib.import_module('fv.steps.step6')",
    "by its name, relative": "from importlib import import_module\nimport_module('..steps.step6', __package__)",
    "by its name, relative to another": "from importlib import import_module\nimport_module('.step6', 'fv.steps')",
    "by a name in a table": "STEPS = {'step6': ('fv.steps.step6', 'run_step6')}",
    "by a name and what is in it": "TARGET = 'fv.steps.step6.run_step6'",
    "as an entry point": "TARGET = 'fv.steps.step6:run_step6'",
    "by a default": "def f(module='fv.steps.step6'):\n    return module",
}


@pytest.mark.parametrize("text", UP.values(), ids=UP)
def test_an_import_that_runs_up_is_found_however_it_is_written(text: str, toy: Toy) -> None:
    root = toy({"fv/heads/ranking.py": f'"""A module."""\n\n{text}\n'})
    found = [each for each in violations(read_imports(root)) if each.imported == "fv.steps.step6"]
    ((importer, _, file, line, shown),) = found
    assert (importer, file) == ("fv.heads.ranking", Path("fv/heads/ranking.py"))
    assert "step" in shown and (root / file).read_text(encoding="utf-8").splitlines()[line - 1].strip() == shown


def test_the_start_of_a_modules_name_counts_as_its_package(toy: Toy) -> None:
    root = toy({"fv/heads/ranking.py": "def f(name):\n    return __import__(f'fv.steps.{name}')"})
    assert up(root) == [("fv.heads.ranking", "fv.steps", 2)]


def test_relative_imports_of_a_packages_own_file_start_at_the_package(toy: Toy) -> None:
    root = toy({"fv/heads/__init__.py": "from ..steps import step6\nfrom .ranking import f", "fv/heads/ranking.py": ""})
    assert up(root) == [("fv.heads", "fv.steps.step6", 1)]
    assert ("fv.heads", "fv.heads.ranking") in {each[:2] for each in read_imports(root)}


@pytest.mark.parametrize(
    "text",
    [
        '"""fv.steps.step6"""',
        'def f():\n    """fv.steps.step6"""',
        'class A:\n    x: int\n    """fv.steps.step6"""',
        "MESSAGE = 'Run python -m fv.steps.step6 first.'",
        "NAMES = ('fv', 'fv.json', 'steps.step6', 'other.fv.steps')",
        "from fv.errors import steps\nfrom fv.config import heads",
        "from .ranking import f",
    ],
    ids=["docstring", "of a function", "of a field", "message", "file", "down", "own room"],
)
def test_what_is_no_import_or_runs_down_is_left_alone(text: str, toy: Toy) -> None:
    root = toy({"fv/heads/ranking.py": "", "fv/heads/other.py": text})
    assert up(root) == []


@pytest.mark.parametrize(
    ("name", "text", "imported"),
    [
        ("fv/figures/heatmap.py", "from fv.errors import FvError", "fv.errors"),
        ("fv/errors.py", "import fv.config", "fv.config"),
        ("fv/errors.py", "from fv import __version__", "fv"),
        ("fv/config/base.py", "import fv", "fv"),
        ("fv/attic/old.py", "import fv.errors", "fv.errors"),
        ("fv/steps/step6.py", "def f():\n    from hydra.core import plugins", "hydra"),
        ("fv/steps/step6.py", "import hydra", "hydra"),
        ("fv/steps/step6.py", "MAIN = 'entrypoints.app'", "entrypoints.app"),
    ],
)
def test_the_ends_of_the_house_import_as_little_as_the_table_says(
    name: str, text: str, imported: str, toy: Toy
) -> None:
    root = toy({name: text, "entrypoints/app.py": "import hydra\nSTEP = 'fv.steps.step6'"})
    assert [each[1] for each in up(root)] == [imported]


def test_a_new_room_must_be_put_into_the_table(toy: Toy) -> None:
    assert unplaced(toy({})) == []
    assert unplaced(toy({"fv/attic/__init__.py": "", "fv/drawer.py": ""})) == ["attic", "drawer"]


def test_a_target_in_yaml_counts_as_an_import_of_the_entrypoints(toy: Toy) -> None:
    root = toy({"conf/base.yaml": "a: 1\nb:\n  _target_: fv.steps.step6.Callback\n"})
    (found,) = read_imports(root)
    assert (room_of(found.importer), found.imported, found.line) == ("entrypoints", "fv.steps.step6", 3)


# Floors and arrows

NODES = "abcdefg"
houses = st.sets(st.tuples(st.sampled_from(NODES), st.sampled_from(NODES)).filter(lambda pair: pair[0] != pair[1]))


def graph(arrows: set[tuple[str, str]]) -> Graph:
    return {node: frozenset(other for own, other in arrows if own == node) for node in NODES}


@given(houses)
def test_whoever_imports_is_on_a_higher_floor_unless_both_are_in_a_circle(arrows: set[tuple[str, str]]) -> None:
    at, reached = floors(graph(arrows)), reach(graph(arrows))
    for own, other in arrows:
        assert at[own] == at[other] if own in reached[other] else at[own] > at[other]
    assert {*at.values()} == {*range(1, max(at.values()) + 1)}


@given(houses.map(lambda arrows: {(min(pair), max(pair)) for pair in arrows}))
def test_the_picture_leaves_out_every_arrow_that_a_longer_way_gives_and_no_other(arrows: set[tuple[str, str]]) -> None:
    kept = reduced(graph(arrows))
    assert reach(kept) == reach(graph(arrows))
    for own, other in ((own, other) for own, others in kept.items() for other in others):
        assert reach({**kept, own: kept[own] - {other}}) != reach(kept)


@given(houses)
def test_arrows_of_a_circle_stay_in_the_picture(arrows: set[tuple[str, str]]) -> None:
    assert reach(reduced(graph(arrows))) == reach(graph(arrows))


# Where the settings go


def steps(toy: Toy, body: str) -> list[tuple[str, str]]:
    """The calls from `run_step6`, whose body is given, without `fv.`."""
    imported = "from fv.heads.ranking import Ranker, rank, top\nfrom fv.config import Config\n"
    files = {
        "fv/heads/__init__.py": "from .ranking import rank",
        "fv/heads/ranking.py": (
            "from fv.errors import check\n"
            "class Ranker:\n    config: Config\n    def best(self):\n        return check(self.config.k)\n"
            "def rank(settings: ScoreConfig):\n    return check(settings)\n"
            "def top(k: int):\n    return check(k)\n"
        ),
        "fv/errors.py": "def check(value): ...",
        "fv/steps/step6.py": f"{imported}\ndef run_step6(config: Config, lm):\n    {body}\n",
    }
    found = settings_calls(read_modules(toy(files)), "fv.steps.step6.run_step6")
    return sorted((own.removeprefix("fv."), other.removeprefix("fv.")) for own, other in found)


INTO, FURTHER = ("steps.step6", "heads.ranking"), ("heads.ranking", "errors")


@pytest.mark.parametrize(
    ("body", "calls"),
    [
        ("rank(config)", [FURTHER, INTO]),
        ("rank(config.score)", [FURTHER, INTO]),
        ("rank(settings=config.score)", [FURTHER, INTO]),
        ("score = config.score; rank(score)", [FURTHER, INTO]),
        ("a, b = lm, config.score; rank(b)", [FURTHER, INTO]),
        ("with rank(config): pass", [FURTHER, INTO]),
        ("Ranker(config)", [FURTHER, INTO]),
        ("rank(config); rank(config)", [FURTHER, INTO, INTO]),
        ("top(config.score.k)", [INTO]),
        ("top(*config.score.k)", [INTO]),
        ("rank(lm)", []),
        ("top(len(lm))", []),
        ("print(config)", []),
    ],
)
def test_calls_that_hand_settings_on_are_followed_and_no_others(
    body: str, calls: list[tuple[str, str]], toy: Toy
) -> None:
    assert steps(toy, body) == calls


def test_settings_are_followed_through_a_packages_public_names(toy: Toy) -> None:
    assert steps(toy, "from fv.heads import rank as by_score; by_score(config)") == [FURTHER, INTO]
    assert steps(toy, "import fv.heads; fv.heads.rank(config)") == [FURTHER, INTO]


def test_a_walk_in_a_circle_ends(toy: Toy) -> None:
    assert steps(toy, "run_step6(config, lm)") == [("steps.step6", "steps.step6")]


def test_calls_to_another_floor_are_climbs_and_calls_on_the_same_floor_are_none(toy: Toy) -> None:
    text = (
        "from fv.heads import rank\n"
        "def run_step6(config: Config):\n    own(config)\n    rank(config.score)\n    rank(config.score)\n"
        "def own(config: Config): ...\n"
    )
    root = toy({"fv/steps/step6.py": text, "fv/heads/__init__.py": "def rank(score: ScoreConfig): ..."})
    found = counts(root)
    assert {number for name, number in found.items() if "climbs" in name} == {2}
    assert (found["rooms"], found["arrows between rooms"], found["floors of rooms"]) == (5, 1, 2)


# The page


def test_the_picture_has_a_box_a_room_one_for_all_leaves_and_each_rooms_purpose(toy: Toy) -> None:
    text = "import fv.heads.ranking\nimport fv.errors\nimport fv.config\n"
    root = toy(
        {"fv/steps/step6.py": text, "fv/heads/ranking.py": "import fv.config", "fv/config/a.py": "import fv.errors"}
    )
    lines = drawing(root).splitlines()
    arrows = [line.strip() for line in lines if "-->" in line]
    assert arrows == ["steps --> heads", "heads --> config", "config --> leaves"]
    rows = [line for line in lines if line.startswith("| [")]
    assert rows == [
        "| [`errors`](../fv/errors.py) | The errors. |",
        "| [`config`](../fv/config) | What config is for. |",
        "| [`heads`](../fv/heads) | What heads is for. |",
        "| [`steps`](../fv/steps) | What steps is for. |",
        "| [`fv`](../fv/__init__.py) | The face. |",
    ]


def test_drawing_twice_changes_nothing_and_keeps_the_rest_of_the_page() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    once = drawn(page, "a picture")
    assert "a picture" in once and drawn(once, "a picture") == once
    assert drawn(once, "another") == drawn(page, "another")


@pytest.mark.parametrize("page", ["", "no markers", "<!-- drawn by scripts/architecture.py -->"])
def test_a_page_without_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="needs one line"):
        drawn(page, "a picture")


def test_check_fails_until_the_page_is_drawn_and_again_when_the_code_changes(toy: Toy) -> None:
    root = toy({"docs/architecture.md": (ROOT / PAGE).read_text(encoding="utf-8")})
    for name in ("architecture.py", "climbs.py", "imports.py"):
        (root / "scripts").mkdir(exist_ok=True)
        shutil.copy(ROOT / "scripts" / name, root / "scripts" / name)

    def code(*words: str) -> int:
        return subprocess.run([sys.executable, root / "scripts" / "architecture.py", *words], check=False).returncode

    assert code("--check") == 1
    assert code() == 0
    assert code("--check") == 0
    (root / "fv" / "steps" / "step6.py").write_text("import fv.heads", encoding="utf-8")
    assert code("--check") == 1
