"""A run's page: every number is the run's, hostile text is text, no server is asked, the same run is the same bytes."""

import base64
import csv
import hashlib
import io
import math
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from commands import ROOT
from conftest import MakeConfig
from hostile_texts import ANSWERS, NAMES
from page_reader import Page
from tiny_runs import Settings, TinyRun

from fv.errors import ArtifactError, FvError
from fv.report.findings import what_was_done
from fv.report.limits import Limits
from fv.report.page import write_page
from fv.report.page_tables import tables_of
from fv.report.pictures import pictures_of
from fv.report.results import RunResults
from fv.runs.paths import RunPaths
from fv.runs.run import Run, open_run
from fv.steps.pipeline import run_pipeline


@pytest.fixture(scope="module")
def html(hostile_run: Run) -> str:
    return write_page(hostile_run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def numbers(table: Any) -> set[float]:
    kept = table.select_dtypes("number").to_numpy(float).ravel()
    return {value for value in kept.tolist() if not math.isnan(value)}


@pytest.mark.slow
def test_the_same_run_is_the_same_bytes(hostile_run: Run, html: str) -> None:
    figures = {path.name: path.read_bytes() for path in (hostile_run.paths.root / "report" / "figures").iterdir()}
    again = write_page(open_run(hostile_run.paths.root))
    assert again.read_text(encoding="utf-8") == html
    assert figures and {path.name: path.read_bytes() for path in (again.parent / "figures").iterdir()} == figures


@pytest.mark.slow
def test_hostile_names_and_answers_are_text_and_nothing_else(page: Page) -> None:
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"img", "i", "b", "iframe", "object", "embed", "link", "base", "form"}
    assert all(not name.startswith("on") for _, own in page.elements for name in own)
    assert len([tag for tag, _ in page.elements if tag == "script"]) == 2
    assert set(page.texts["h3"]) | set(page.texts["bdi"]) >= {*NAMES}
    said = {cell for row in page.cells["trials"] for cell, _ in row}
    assert any(answer in text for answer in ANSWERS[:1] for text in said)
    assert {row[0][0] for row in page.cells["trials"]} == {*NAMES}


def test_only_the_pages_own_scripts_may_run(page: Page) -> None:
    (policy,) = [own["content"] for tag, own in page.elements if own.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    hashes = {base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in page.texts["script"]}
    assert len(hashes) == 2 and all(f"'sha256-{each}'" in policy for each in hashes)
    assert policy.startswith("default-src 'none'") and "unsafe-inline" not in policy.split("script-src")[1]


def test_no_script_holds_letters_that_begin_or_end_one(page: Page) -> None:
    assert len("".join(page.texts["script"])) > 100_000
    assert not [text for text in page.texts["script"] if re.search(r"<(?:!--|/?script)", text, re.IGNORECASE)]


def test_the_licence_of_the_scripts_is_on_the_page(page: Page) -> None:
    (licence,) = [text for text in page.texts["pre"] if "MIT License" in text]
    assert licence.startswith("itables ") and "Permission is hereby granted" in licence
    assert re.search(r"jQuery JavaScript Library v\d.*DataTables \d", page.texts["script"][0], re.DOTALL)


def test_nothing_is_asked_of_any_server(page: Page, html: str) -> None:
    for tag, own in page.elements:
        for name in ("src", "href", "xlink:href", "action", "data", "srcset"):
            assert own.get(name) is None or str(own[name]).startswith(("#", "data:")), (tag, own)
    styles = "".join(page.texts["style"])
    assert "@import" not in styles and "http" not in styles


def test_every_number_of_a_table_is_one_of_the_runs(hostile_run: Run, page: Page) -> None:
    for name in ("contrasts", "transfer", "injection_cost", "head_stability"):
        shown = page.cells["heads" if name == "head_stability" else name]
        exact = {float(each) for row in shown for _, each in row if each is not None}
        assert len(exact) > 9 and exact <= numbers(hostile_run.table(name)), name
    summary = hostile_run.record("eval_summary")
    chosen = {(row["eval_qid"], row["mean_delta_logprob"]) for row in summary["chosen"]}
    assert len(page.cells["results"]) == 3
    for row in page.cells["results"]:
        values = {float(each) for _, each in row if each}
        assert any(name == row[0][0] and effect in values for name, effect in chosen)


def test_contrasts_say_how_many_draws_a_control_has_and_how_they_spread(hostile_run: Run) -> None:
    (shown,) = [table for table in tables_of(RunResults(hostile_run)) if table.name == "contrasts"]
    at = {name: shown.header.index(name) for name in ("minus", "n_draws", "draw_sd", "draw_min", "draw_max")}
    random = [row for row in shown.rows if row[at["minus"]].text == "random_vector"]
    assert random and {row[at["n_draws"]].exact for row in random} == {"20"}
    for row in random:
        sd, low, high = (float(row[at[name]].exact) for name in ("draw_sd", "draw_min", "draw_max"))
        assert low <= high and (sd > 0) == (low < high)


def test_what_is_read_rounds_what_it_is_exactly(page: Page) -> None:
    cells = [(text, exact) for rows in page.cells.values() for row in rows for text, exact in row if exact is not None]
    assert len(cells) > 100
    for text, exact in cells:
        assert abs(float(text.replace("−", "-")) - float(exact)) <= max(0.0051, 1e-5 * abs(float(exact)))


def test_downloads_are_the_tables(page: Page) -> None:
    links = {own["download"]: str(own["href"]) for _, own in page.elements if own.get("download")}
    assert {"results.csv", "contrasts.csv", "transfer.csv", "heads.csv"} <= set(links)
    for name, address in links.items():
        _, *rows = csv.reader(io.StringIO(unquote(address.partition(",")[2])))
        shown = page.cells[str(name).removesuffix(".csv")]
        assert len(rows) == len(shown) > 0
        for row, cells in zip(rows, shown, strict=True):
            for text, (seen, exact) in zip(row, cells, strict=True):
                assert (float(text) == float(exact)) if exact else (seen == (text or "–"))


def test_the_browser_shows_prompts_answers_and_log_probabilities(hostile_run: Run, page: Page) -> None:
    rows = {(row[0][0], row[2][0].partition("\n")[0]): row for row in page.cells["trials"]}
    said = hostile_run.table("held_out_trials")
    for trial in hostile_run.trials.held_out:
        row = rows[trial.q_id, trial.query.exA]
        assert row[3][0] == trial.query.exB
        for prompt in (trial.clean_prompt_str, trial.corrupted_prompt_str, trial.zero_shot_prompt_str):
            assert prompt in row[2][0]
        own = said[(said["trial_id"] == trial.trial_id) & (said["condition"] == "zero_shot")]
        assert row[1][0] == ("dev" if own.empty else "test")
        if len(own):
            assert row[4][0] == own["text"].iloc[0] and float(str(row[7][1])) == own["logprob"].iloc[0]
        else:
            assert row[4][0] == "–" and row[7][1] is not None
    assert {row[1][0] for row in rows.values()} == {"dev", "test"}


def test_no_folder_or_host_of_the_machine_is_told(hostile_run: Run, html: str, page: Page) -> None:
    assert str(hostile_run.paths.root.parent.parent) not in html and str(Path.home()) + "/" not in html
    said = " ".join(text for texts in page.texts.values() for text in texts)
    assert not re.search(rf"\b{re.escape(platform.node())}\b", said)
    assert "…/hostile.csv" in html


def test_the_command_is_the_runs_settings(hostile_run: Run, page: Page, make_config: MakeConfig) -> None:
    (command,) = [text for text in page.texts["pre"] if text.startswith("python -m")]
    python, m, entrypoint, *overrides = shlex.split(command)
    assert (python, m, entrypoint) == ("python", "-m", "entrypoints.pipeline")
    again = make_config(*overrides).resolved()
    for group in ("data", "score", "injection", "evaluation", "stats", "compute", "seed", "run_id"):
        recorded = hostile_run.config.resolved()[group]
        if group == "data":
            again[group]["relation_csv_path"] = recorded["relation_csv_path"]
        assert again[group] == recorded


def test_ids_are_the_pages_own_and_links_inside_it_lead_somewhere(page: Page) -> None:
    ids = [own["id"] for _, own in page.elements if own.get("id")]
    assert len(ids) == len(set(ids)) > 100
    inside = [own.get(name) for _, own in page.elements for name in ("href", "xlink:href")]
    assert {each[1:] for each in inside if each and each.startswith("#")} <= set(ids)


def test_the_page_of_a_small_run_is_small(html: str) -> None:
    assert len(html.encode()) < 2_000_000


@pytest.mark.slow
def test_figures_are_written_in_the_forms_that_are_asked_and_unknown_forms_refused(hostile_run: Run, html: str) -> None:
    folder = hostile_run.paths.root / "report" / "figures"
    svg = {path.stem for path in folder.glob("*.svg")}
    write_page(hostile_run, ("png",), Limits(relations=1))
    assert {path.stem for path in folder.glob("*.png")} == svg - {
        f"{kind}_0{n}" for kind in ("layers", "trials") for n in (2, 3)
    }
    assert {"heads", "contrasts", "transfer", "cosines", "cost", "head_count", "layers_01", "trials_01"} <= svg
    with pytest.raises(FvError, match=r"formats='gif' must be one of svg, pdf, png\."):
        write_page(hostile_run, ("gif",))


@pytest.mark.slow
def test_what_is_too_large_is_cut_with_a_notice(hostile_run: Run) -> None:
    limits = Limits(relations=2, names=2, findings=1, rows=5, trials=6, letters=10)
    sizes = {each.name: len(each.figure.table) for each in pictures_of(RunResults(hostile_run), limits)}
    assert sizes["transfer"] == sizes["cosines"] == sizes["shared_heads"] == 4
    html = write_page(hostile_run, limits=limits).read_text(encoding="utf-8")
    cut = Page(html)
    assert len(cut.cells["contrasts"]) == 5 and "The first 5 of" in html
    assert len(cut.cells["trials"]) == 6 and "6 of 12 trials" in html
    assert {row[0][0] for row in cut.cells["trials"]} == {*NAMES}
    assert "… [cut:" in html and "2 further relations are in the tables only." in html
    assert not any(own.get("id") == "figure-layers_03" for _, own in cut.elements)


def test_a_run_without_injections_says_what_is_missing(hostile_run: Run, tmp_path: Path) -> None:
    root = tmp_path / "r"
    shutil.copytree(hostile_run.paths.root, root)
    shutil.rmtree(root / "artifacts" / "step6")
    html = write_page(open_run(root)).read_text(encoding="utf-8")
    assert "Step6 has not run" in html and "This run recorded no answers" in html and 'id="figure-heads"' in html
    (root / "artifacts" / "fv_global_resid_meta.json").unlink()
    html = write_page(open_run(root)).read_text(encoding="utf-8")
    assert "StepE has not run" in html and 'id="figure-heads"' in html


@pytest.mark.slow
def test_a_grid_alone_says_that_it_has_no_answers(tiny_run: TinyRun) -> None:
    config = tiny_run({"injection.fv": "all_qids", "eval_scope.mode": "all_qids", "stats.n_resamples": 100})
    run_pipeline(config)
    html = write_page(open_run(RunPaths.of(config).root)).read_text(encoding="utf-8")
    assert "This run recorded no answers" in html and "Step6 ran only its grid" in html
    assert len(Page(html).cells["results"]) == 3


@pytest.mark.parametrize(
    ("changes", "told", "untold"),
    [
        ({}, "Dev trials chose layer and strength among 3 cells; the numbers are from other trials", "fit trials"),
        ({"injection.layer": 1}, "Layer 1 and α = 1 were given, not chosen; the numbers are from all", "Dev trials"),
        ({"injection.layer": 1, "injection.k": [1, 2]}, "Dev trials chose the number of heads; the", "fit trials"),
        ({"data.split": "shared"}, "All of them are fit trials, which chose the heads and gave the vectors", "given"),
    ],
)
def test_the_page_says_how_cells_were_chosen_and_whose_trials_its_numbers_are_of(
    tiny_run: TinyRun, changes: Settings, told: str, untold: str
) -> None:
    config = tiny_run({"injection.fv": "all_qids", "eval_scope.mode": "all_qids"}, changes)
    run_pipeline(config)
    said = " ".join(what_was_done(RunResults(open_run(RunPaths.of(config).root))))
    assert told in said and untold not in said


def test_a_record_that_no_step_wrote_is_refused_by_name(hostile_run: Run) -> None:
    assert hostile_run.record("top_heads")["k"] == 3
    with pytest.raises(ArtifactError, match=r"no nothing\.json"):
        hostile_run.record("nothing")


@pytest.mark.parametrize("package", ["itables", "jinja2", "matplotlib"])
def test_without_the_extra_one_line_says_what_to_install(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import fv.report.page"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: A page needs Jinja2, itables, matplotlib: pip install 'function-vectors[report]'."
    )
