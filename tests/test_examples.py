"""The examples run as they stand, on the embedded model."""

import contextlib
import runpy
from pathlib import Path

import pytest
from commands import ROOT

import fv

EXAMPLES = ROOT / "examples"


@pytest.mark.slow
def test_hello_world_says_more_with_the_vector_than_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.chdir(tmp_path):
        held = runpy.run_path(str(EXAMPLES / "hello_world.py"))
    row = held["result"].headline.iloc[0]
    assert row["delta_logprob"] > 0 and row["n_refits"] == 20
    said = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines() if line.startswith("with"))
    assert "House" in said["with"] and "House" not in said["without"]
    assert len((EXAMPLES / "hello_world.py").read_text().splitlines()) <= 20


@pytest.mark.slow
def test_the_notebook_runs_from_cell_to_cell(tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        held = runpy.run_path(str(EXAMPLES / "notebook.py"))
        written = sorted(path.name for path in Path("figures").iterdir())
    assert written == ["effect_by_layer.png", "heads.png", "verb_past.safetensors"]
    assert isinstance(held["result"], fv.Result) and held["own"].name == "smollm2"


@pytest.mark.slow
def test_the_readmes_lines_run_as_they_stand(tmp_path: Path, small_csv: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = readme.partition("```python\n")[2].partition("```")[0]
    # The whole grid of the embedded model takes a minute: fewer trials and layers show the same.
    quick = lines.replace("demos=10, fit=36, held_out=20", "demos=3, fit=2, held_out=4")
    assert quick != lines
    quick = quick.replace("layers=range(8, 22, 3)", "layers=[11, 17]")
    with contextlib.chdir(tmp_path):
        Path("my.csv").write_bytes(small_csv.read_bytes())
        held: dict[str, object] = {}
        exec(quick, held)
    assert isinstance(held["result"], fv.Result)
