"""The pictures for the documents are those of the run's page, and a run that is not there is asked for."""

from pathlib import Path

import docs_figures
import pytest
from commands import run

from fv.runs.run import Run


@pytest.mark.slow
def test_each_picture_is_drawn_small_and_the_same_again(hostile_run: Run, tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in docs_figures.draw(hostile_run.paths.root, tmp_path)}
    assert first.keys() == {f"{name}.png" for name in docs_figures.NAMES}
    assert all(len(data) < 200_000 for data in first.values())
    again = docs_figures.draw(hostile_run.paths.root, tmp_path)
    assert {path.name: path.read_bytes() for path in again} == first


def test_without_the_run_one_line_says_how_to_make_it(tmp_path: Path) -> None:
    done = run("scripts/docs_figures.py", str(tmp_path / "none"), code=1)
    assert done.stderr.startswith("There is no run in") and "make demo" in done.stderr
