"""The commands `pipeline` and `report` write the page where it is wanted and can be, and say where it is."""

import re
from pathlib import Path

import pytest
from commands import module
from conftest import MakeConfig

from fv.errors import ConfigError
from fv.runs.run import Run


@pytest.fixture
def small(tiny_overrides: list[str]) -> list[str]:
    return [*tiny_overrides, "data.qids=[antonym]", "injection.layer=1"]


@pytest.mark.slow
def test_the_pipeline_ends_with_the_page_and_a_run_is_the_same_without_one(small: list[str], tmp_path: Path) -> None:
    report = tmp_path / "relation" / "r" / "report"
    bare = module("pipeline", *small)
    assert not report.exists() and "Page:" not in bare.stdout
    summary = report.with_name("artifacts") / "step6" / "eval_summary.json"
    before = summary.read_bytes()
    done = module("pipeline", *small, "report.page=html")
    assert done.stdout.splitlines()[-1] == f"Page: {report / 'index.html'}" and (report / "index.html").exists()
    assert "Zero-shot answers" in done.stdout and summary.read_bytes() == before


@pytest.mark.slow
def test_report_prints_the_tables_and_writes_the_page_in_the_forms_that_are_asked(hostile_run: Run) -> None:
    root = hostile_run.paths.root
    own = ("run_id=r", f"results_dir={root.parent.parent}")
    done = module("report", *own, "report.formats=[pdf]")
    assert "Zero-shot answers" in done.stdout and done.stdout.splitlines()[-1] == f"Page: {root}/report/index.html"
    assert {"heads.pdf", "contrasts.pdf"} <= {path.name for path in (root / "report" / "figures").iterdir()}
    assert "Page:" not in module("report", *own, "report=none").stdout


@pytest.mark.slow
def test_without_the_extra_one_line_says_so_and_nothing_fails(hostile_run: Run, tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')")
    own = ("run_id=r", f"results_dir={hostile_run.paths.root.parent.parent}")
    done = module("report", *own, PYTHONPATH=str(tmp_path))
    assert "Zero-shot answers" in done.stdout and "Traceback" not in done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"No page was written\. .*pip install 'function-vectors\[report\]'\.", last)


@pytest.mark.parametrize(("formats", "problem"), [("gif", "'gif' is none of svg, pdf, png"), ("svg,svg", "one twice")])
def test_unknown_and_repeated_formats_are_refused(make_config: MakeConfig, formats: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"report\.formats=.*{problem}\."):
        make_config(f"report.formats=[{formats}]")
