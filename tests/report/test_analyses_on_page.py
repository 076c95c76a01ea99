"""What an analysis wrote is on the page, though the page knows nothing of it."""

import base64
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
from matplotlib.figure import Figure
from page_reader import Page

from fv.analyses import Analysis
from fv.analyses.running.runner import run_analysis
from fv.errors import ArtifactError
from fv.models.language_model import LanguageModel
from fv.report.page import write_page
from fv.runs.live_run import LiveRun
from fv.runs.paths import RunPaths
from fv.runs.records import Step6Record, read_record
from fv.runs.run import Run, open_run
from fv.runs.step6_files import META


@dataclass
class Lengths(Analysis):
    """How long answers are."""

    reads: ClassVar[tuple[str, ...]] = ("held_out_trials",)

    def compute(self, run: LiveRun, unit: Any) -> dict[str, pd.DataFrame]:
        rows = run.table("held_out_trials")
        return {"answer_lengths": rows.assign(letters=rows["text"].str.len())[["trial_id", "condition", "letters"]]}

    def figures(self, tables: Any) -> dict[str, Figure]:
        figure = Figure()
        figure.subplots().set_title("</figure><script>alert(1)</script>")
        return {"letters": figure}


def no_model() -> LanguageModel:
    raise AssertionError("this analysis needs no model")


@pytest.fixture
def analysed(hostile_run: Run, tmp_path: Path) -> Run:
    shutil.copytree(hostile_run.paths.root / "artifacts", tmp_path / "r" / "artifacts")
    paths = RunPaths(tmp_path / "r")
    run_analysis("lengths", Lengths(), LiveRun(paths, read_record(paths.step6 / META, Step6Record).config, no_model))
    return open_run(paths.root)


@pytest.mark.slow
def test_tables_and_figures_of_an_analysis_are_on_the_page_without_a_change_to_it(analysed: Run) -> None:
    folder = analysed.paths.analysis("lengths")
    page = Page(write_page(analysed).read_text(encoding="utf-8"))
    shown = [float(str(row[2][1])) for row in page.cells["answer_lengths"]]
    expected = pd.read_csv(folder / "answer_lengths.csv")["letters"]
    assert len(shown) > 9 and shown == expected.head(len(shown)).tolist()
    assert any("Made by the analysis lengths." in text for text in page.texts["p"])
    (image,) = [own for tag, own in page.elements if tag == "img"]
    kind, _, data = str(image["src"]).partition(";base64,")
    assert kind == "data:image/svg+xml" and base64.b64decode(data) == (folder / "letters.svg").read_bytes()
    assert image["alt"] == "letters, drawn by the analysis lengths."
    assert len(page.texts["script"]) == 2


@pytest.mark.slow
def test_a_figure_that_was_changed_is_refused_by_name(analysed: Run) -> None:
    with (analysed.paths.analysis("lengths") / "letters.svg").open("a") as file:
        file.write(" ")
    with pytest.raises(ArtifactError, match=r"letters\.svg"):
        write_page(analysed)
