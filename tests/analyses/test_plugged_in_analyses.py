"""Analyses of an installed package, with their settings and figures, are run, listed and told like ours."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from analysed import ANALYSED, asked
from commands import ROOT, module
from conftest import MakeConfig
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from plug_ins import install
from tiny_runs import TinyRunIn

import fv
from entrypoints.plug_ins import add_analyses
from fv.analyses import known_analyses
from fv.files import read_json
from fv.runs.paths import RunPaths
from fv.steps.analyses import run_analyse
from fv.steps.listing import list_analyses
from fv.steps.pipeline import run_pipeline

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ANSWERS = PAGE.partition("## An analysis")[2].partition("```python\n")[2].partition("```")[0]
"""The analysis that the page shows."""
BY_ITSELF = '''
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from fv.analyses import Analysis


@dataclass
class Sizes(Analysis):
    """How long each vector is, which Step6 says by itself."""

    reads: ClassVar[tuple[str, ...]] = ("injected",)
    default: ClassVar[bool] = True
    summary_key: ClassVar[str] = "lengths"

    def compute(self, run, unit):
        return {"lengths": pd.DataFrame([{"fv": vector.name, "norm": vector.norm} for vector in run.injected])}
'''
NAMES = """answers = outside_analyses.answers:Answers
sizes = outside_analyses.sizes:Sizes
broken = outside_analyses.broken:Broken
"""
MODULES = {"answers": ANSWERS, "sizes": BY_ITSELF, "broken": "import a_module_that_nobody_has\n"}
GROUP = "function_vectors.analyses"


@pytest.fixture
def store() -> Iterator[ConfigStore]:
    """Hydra's store, which is as it was afterwards."""
    found = ConfigStore.instance()
    before = dict(found.repo["analysis"])
    known_analyses.cache_clear()
    yield found
    found.repo["analysis"] = before
    known_analyses.cache_clear()


@pytest.fixture
def _outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: ConfigStore) -> None:
    """A package with an analysis, one that runs by itself, and a module that fails to import."""
    install(monkeypatch, tmp_path / "site", "outside_analyses", MODULES, GROUP, NAMES)
    add_analyses()


@pytest.mark.slow
@pytest.mark.usefixtures("_outside")
def test_analyses_of_an_installed_package_are_in_tables_summary_list_and_settings(
    make_config: MakeConfig,
    tiny_run_in: TinyRunIn,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tiny_run_in(tmp_path)(ANALYSED)
    paths = RunPaths.of(config)
    step6 = run_pipeline(config)
    # The one that Step6 runs by itself.
    lengths = fv.open_run(paths.root).table("lengths")
    assert lengths["fv"].tolist() == ["antonym", "verb_past"] and (lengths["norm"] > 0).all()
    assert read_json(step6 / "eval_summary.json")["lengths"]["lengths"] == lengths.to_dict("records")
    assert not paths.analysis("answers").exists()
    # The one that is asked for.
    run_analyse(make_config(*asked(tmp_path, ["answers"], "analysis.answers.most=1"), entrypoint="analyse"))
    answers = fv.open_run(paths.root).table("answers")
    assert len(answers) == answers.groupby(["eval_qid", "condition"]).ngroups > 4
    folder = paths.analysis("answers")
    assert (folder / "answers.png").exists() and (folder / "answers.svg").exists()
    meta = read_json(folder / "analysis_meta.json")
    assert meta["settings"] == {"analysis.answers.most": 1} and meta["inputs"].keys() == {
        "held_out_trials",
        "seed and stats",
    }
    list_analyses()
    listed = capsys.readouterr().out
    assert "analysis.answers.most=3" in listed and "outside_analyses" in listed and "broken" not in listed
    assert {"lengths", "answers"} <= {*fv.open_run(paths.root).tables}


@pytest.mark.usefixtures("_outside")
def test_settings_of_an_installed_package_are_checked_like_any_others(make_config: MakeConfig) -> None:
    assert [*make_config().analysis] == ["cost", "ranking_stability", "sizes", "transfer"]
    for wrong, told in (
        (["analysis=[answers]", "analysis.answers.most=many"], "analysis.answers.most=many"),
        (["analysis=[answers]", "analysis.answers.least=1"], "Could not override 'analysis.answers.least'"),
        (["analysis=[broken]"], "Could not load 'analysis/broken'"),
    ):
        with pytest.raises(HydraException, match=told):
            make_config(*wrong, entrypoint="analyse")


@pytest.mark.slow
def test_the_command_lists_analyses_and_finds_settings_that_are_not_the_runs(
    tiny_run_in: TinyRunIn, tmp_path: Path
) -> None:
    listed = module("analyse", "list").stdout
    assert all(name in listed for name in known_analyses()) and "analysis.cost.n_texts=12" in listed
    assert "ranking_stability" in module("analyse", "--help").stdout
    run_pipeline(tiny_run_in(tmp_path)(ANALYSED, analysis=[]))
    words = [*asked(tmp_path, ["transfer", "cost"]), "score.k=3"]
    module("analyse", *words)
    folder = tmp_path / "relation" / "r" / "artifacts" / "analyses"
    assert sorted(path.name for path in folder.iterdir()) == ["cost", "transfer"]
    assert set(pd.read_csv(folder / "cost" / "injection_cost.csv")["n"]) == {2}
    refused = module("analyse", *words[:-1], "score.k=4", code=1)
    assert "score.k: there 3, here 4" in refused.stderr and "Traceback" not in refused.stderr
