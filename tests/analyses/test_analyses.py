"""Every analysis of the registry, on a finished run: its tables, its figures, what is kept, what is refused."""

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
from analysed import ANALYSED, asked, bytes_of, rest_of
from conftest import MakeConfig
from setting_docs import explained
from tiny_runs import TinyRunIn

import fv
from fv.analyses import Analysis, analyses_of, known_analyses
from fv.config import Config
from fv.errors import ArtifactError, ConfigError
from fv.evaluation.dev_choice import DevChoice
from fv.files import read_json
from fv.runs.paths import RunPaths
from fv.steps.analyses import run_analyse
from fv.steps.pipeline import run_pipeline
from fv.steps.step6 import run_step6
from fv.steps.stepd import run_stepd

NAMES = list(known_analyses())
BY_DEFAULT = [name for name, analysis in known_analyses().items() if analysis.default]
BY_COST = [name if name in BY_DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
"""All of them; those that a run does not make by itself take their time."""
META = "analysis_meta.json"
Ask = Callable[..., Config]


@pytest.fixture(scope="module")
def finished(tiny_run_in: TinyRunIn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a finished run with the analyses that it makes by itself."""
    results = tmp_path_factory.mktemp("finished")
    run_pipeline(tiny_run_in(results)(ANALYSED))
    return results


@pytest.fixture(scope="module")
def with_all(make_config: MakeConfig, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with every analysis."""
    results = shutil.copytree(finished, tmp_path_factory.mktemp("with_all") / "results")
    asked_for = asked(results, sorted({*NAMES} - {*BY_DEFAULT}), "analysis.null.draws=20")
    run_analyse(make_config(*asked_for, entrypoint="analyse"))
    return results


@pytest.fixture
def results(finished: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return shutil.copytree(finished, tmp_path / "results")


@pytest.fixture
def ask(make_config: MakeConfig, results: Path) -> Ask:
    """Ask for analyses of the run."""

    def make(names: list[str], *more: str) -> Config:
        return make_config(*asked(results, names, *more), entrypoint="analyse")

    return make


def paths_of(results: Path) -> RunPaths:
    return RunPaths(results / "relation" / "r")


# What each says of itself


@pytest.mark.parametrize("name", NAMES)
def test_every_analysis_says_what_it_is_and_what_each_setting_does(name: str) -> None:
    analysis = known_analyses()[name]
    assert analysis.__doc__ and not analysis.__doc__.startswith(f"{analysis.__name__}(")
    assert explained(analysis) == {own.name for own in fields(analysis)}
    assert all(own.default is not MISSING or own.default_factory is not MISSING for own in fields(analysis))
    assert analysis.after in ("StepD", "StepE", "Step6") and analysis.reads


def test_names_and_settings_that_there_are_not_are_refused() -> None:
    for given, told in (
        ({"costs": {}}, "no analysis called 'costs'. Near it: cost"),
        ({"cost": {"n_text": 3}}, "no setting of cost called 'n_text'. Near it: n_texts"),
        ({"cost": {"n_texts": "many"}}, r"^cost\.n_texts='many' is not possible"),
        ({"cost": {"n_texts": -1}}, r"^cost\.n_texts=-1 must be 0 or more"),
    ):
        with pytest.raises(ConfigError, match=told):
            analyses_of(given)


# On a finished run


@pytest.mark.parametrize("name", BY_COST)
def test_each_analysis_leaves_tables_their_json_and_figures(request: pytest.FixtureRequest, name: str) -> None:
    results: Path = request.getfixturevalue("finished" if name in BY_DEFAULT else "with_all")
    folder = paths_of(results).analysis(name)
    meta, run = read_json(folder / META), fv.open_run(results / "relation" / "r")
    assert meta["status"] == "ok" and {*meta["outputs"]} == {*bytes_of(folder)}
    tables = [Path(file).stem for file in meta["outputs"] if file.endswith(".csv")]
    assert tables and all(len(run.table(table)) for table in tables)
    assert read_json(folder / f"{name}.json")
    drawn = {Path(file).stem: (folder / file) for file in meta["outputs"] if file.endswith((".png", ".svg"))}
    assert bool(drawn) == (known_analyses()[name].figures is not Analysis.figures)
    for figure in drawn:
        assert (folder / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"{figure}.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_analysis_made_again_by_itself_has_the_same_bytes_and_changes_nothing_else(
    make_config: MakeConfig,
    with_all: Path,
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def searched(*_: object) -> None:
        raise AssertionError("cells were searched for a second time")

    # The null makes vectors of its own, and has their cells chosen.
    if name != "null":
        monkeypatch.setattr(DevChoice, "best", searched)
    results = shutil.copytree(with_all, tmp_path / "copy")
    more = ["analysis.null.draws=20"] if name == "null" else []
    paths, config = paths_of(results), make_config(*asked(results, [name], *more), entrypoint="analyse")
    rest, before = rest_of(paths.root), bytes_of(paths.analyses)
    shutil.rmtree(paths.analysis(name))
    shutil.rmtree(paths.units)
    run_analyse(config)
    assert bytes_of(paths.analyses) == before and rest_of(paths.root) == rest
    made = read_json(paths.analysis(name) / META)
    with caplog.at_level(logging.INFO):
        run_analyse(config)
    assert f"The analysis {name} in {paths.analysis(name)} is complete already." in caplog.messages
    assert read_json(paths.analysis(name) / META) == made


def test_the_summary_of_step6_holds_what_its_analyses_found(finished: Path) -> None:
    paths = paths_of(finished)
    summary = read_json(paths.step6 / "eval_summary.json")
    assert summary["transfer"] == read_json(paths.analysis("transfer") / "transfer.json")
    assert summary["injection_cost"] == read_json(paths.analysis("cost") / "cost.json")
    assert [*summary][-2:] == ["injection_cost", "transfer"] and "ranking_stability" not in summary


def test_the_tables_of_a_result_are_those_of_its_step_and_of_the_analyses_after_it(finished: Path) -> None:
    tables = fv.open_run(finished / "relation" / "r").result.tables
    assert {"held_out", "contrasts", "injection_cost", "transfer", "transfer_matrix", "fv_cosines"} <= {*tables}
    assert "head_stability" not in tables


def test_transfer_needs_no_model_where_the_vectors_are_in_the_run(
    results: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("fv.steps.model_holder.ModelHolder.of", loaded)
    run_analyse(ask(["transfer", "ranking_stability"], "overwrite=true"))


# Units


@dataclass
class Slow(Analysis):
    """Counts the rows of each relation, and stops where it is told to."""

    reads: ClassVar[tuple[str, ...]] = ("held_out_trials",)
    computed: ClassVar[list[str]] = []
    stop_at: ClassVar[str] = ""

    def units(self, run: Any) -> list[str]:
        return sorted(run.table("held_out_trials")["eval_qid"].unique())

    def compute(self, run: Any, unit: str) -> dict[str, pd.DataFrame]:
        if unit == self.stop_at:
            raise KeyboardInterrupt
        self.computed.append(unit)
        rows = run.table("held_out_trials")
        return {"counts": pd.DataFrame({"eval_qid": [unit], "n": [int((rows["eval_qid"] == unit).sum())]})}


@pytest.fixture
def _slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    classes = {**known_analyses(), "slow": Slow}
    monkeypatch.setattr("fv.analyses.known_analyses", lambda: classes)
    monkeypatch.setattr(Slow, "computed", [])
    yield


def given_slow(ask: Ask, *more: str) -> Config:
    config = ask(["transfer"], *more)
    config.analysis = {"slow": {}}
    return config


@pytest.mark.usefixtures("_slow")
def test_an_analysis_that_was_stopped_goes_on_with_the_units_that_are_missing(
    results: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = paths_of(results).analysis("slow")
    monkeypatch.setattr(Slow, "stop_at", "verb_past")
    with pytest.raises(KeyboardInterrupt):
        run_analyse(given_slow(ask))
    assert not (folder / META).exists()
    monkeypatch.setattr(Slow, "stop_at", "")
    run_analyse(given_slow(ask))
    assert Slow.computed == ["antonym", "verb_past"]
    stopped = bytes_of(folder)
    run_analyse(given_slow(ask, "overwrite=true"))
    assert Slow.computed == ["antonym", "verb_past"] * 2 and bytes_of(folder) == stopped
    counts = pd.read_csv(folder / "counts.csv")
    assert counts["eval_qid"].tolist() == ["antonym", "verb_past"] and (counts["n"] > 0).all()


@pytest.mark.usefixtures("_slow")
@pytest.mark.parametrize(("step", "tag"), [("StepD", None), ("StepE", "t"), ("Step6", "t")])
def test_each_step_runs_the_analyses_that_come_after_it_under_its_tag(
    tiny_run_in: TinyRunIn,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    tag: str | None,
) -> None:
    monkeypatch.setattr(Slow, "after", step)
    monkeypatch.setattr(Slow, "reads", ("trials",))
    monkeypatch.setattr(Slow, "units", lambda self, run: list(run.trials))
    monkeypatch.setattr(Slow, "compute", lambda self, run, unit: {"counts": pd.DataFrame({"eval_qid": [unit]})})
    config = tiny_run_in(results)(ANALYSED, tag="t")
    config.analysis = {"slow": {}}
    run_pipeline(config)
    assert (RunPaths(results / "relation" / "r", tag).analysis("slow") / META).exists()
    assert fv.open_run(results / "relation" / "r", "t").table("counts")["eval_qid"].tolist() == ["antonym", "verb_past"]


@pytest.mark.usefixtures("_slow")
def test_a_table_of_a_taken_name_goes_by_the_name_of_its_analysis_too(
    results: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slow, "finish", lambda self, run, tables: {"contrasts": tables["counts"]})
    run_analyse(given_slow(ask))
    run = fv.open_run(results / "relation" / "r")
    assert "metric" in run.table("contrasts") and [*run.table("slow/contrasts")] == ["eval_qid", "n"]


@pytest.mark.slow
def test_an_analysis_of_results_that_were_made_again_is_left_out_until_it_is(
    tiny_run_in: TinyRunIn, results: Path, ask: Ask
) -> None:
    folder = results / "relation" / "r"
    run_step6(tiny_run_in(results)(ANALYSED, {"injection.layer": [1, 2]}, analysis=["cost"], overwrite=True))
    assert {"injection_cost", "head_stability"} <= {*fv.open_run(folder).tables}
    assert "transfer" not in fv.open_run(folder).tables
    run_analyse(ask(["transfer"]))
    assert "transfer" in fv.open_run(folder).tables


# What is refused


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("score.k=2", r"score\.k: there 3, here 2"),
        ("seed=8", "seed: there 7, here 8"),
        ("data/template=arrow", r"data\.template\.demo: there "),
        ("evaluation.conditions.random_vector.draws=3", r"random_vector\.draws: there 2, here 3"),
        ("stats.n_resamples=200", r"stats\.n_resamples: there 100, here 200"),
    ],
)
def test_a_setting_that_is_not_the_runs_is_refused_by_name(ask: Ask, given: str, told: str) -> None:
    with pytest.raises(ArtifactError, match=told):
        run_analyse(ask(["transfer"], given), given=[given.partition("=")[0].replace("/", ".")])


def test_settings_that_are_the_runs_may_be_given_and_so_may_the_place_of_its_model(
    results: Path, ask: Ask, tiny_llama_folder: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(tiny_llama_folder, tmp_path / "moved")
    given = ["score.k=3", "model=local", f"model.path={moved}", "model.name=elsewhere", "compute.selfcheck=false"]
    config = ask(["cost"], *given, "overwrite=true")
    run_analyse(config, given=[one.partition("=")[0] for one in given])
    assert read_json(paths_of(results).analysis("cost") / META)["config"]["model"]["path"] == str(moved)


def test_an_experiment_says_how_a_run_is_made_and_is_refused(ask: Ask) -> None:
    with pytest.raises(ConfigError, match=r"^experiment says how a run is made"):
        run_analyse(ask(["transfer"], "experiment=demo"), given=["experiment"])


def test_other_settings_of_an_analysis_are_refused_by_name_and_taken_with_overwrite(results: Path, ask: Ask) -> None:
    folder, summary = paths_of(results).analysis("cost"), paths_of(results).step6 / "eval_summary.json"
    before = summary.read_bytes()
    with pytest.raises(ArtifactError, match=r"The analysis cost in .*\n  analysis\.cost\.n_texts: there 2, here 3"):
        run_analyse(ask(["cost"], "analysis.cost.n_texts=3"))
    run_analyse(ask(["cost"], "analysis.cost.n_texts=3", "overwrite=true"))
    assert set(pd.read_csv(folder / "injection_cost.csv")["n"]) == {3}
    run_analyse(ask(["cost"], "analysis.cost.n_texts=0", "overwrite=true"))
    assert not (folder / "injection_cost.csv").exists() and read_json(folder / "cost.json") == []
    assert summary.read_bytes() == before


def test_an_analysis_of_changed_files_is_refused(results: Path, ask: Ask) -> None:
    table = paths_of(results).step6 / "held_out.csv"
    table.write_text(table.read_text().replace("0.", "1.", 1))
    with pytest.raises(ArtifactError, match=r"held_out\.csv is not the file .* wrote"):
        run_analyse(ask(["transfer"], "overwrite=true"))


def test_no_analysis_is_told_which_there_are(ask: Ask) -> None:
    with pytest.raises(ConfigError, match=r"analysis=\[baselines,cost,null,ranking_stability,transfer\]"):
        run_analyse(ask([]))


@pytest.mark.slow
def test_a_run_that_has_not_finished_is_refused_with_the_step(
    make_config: MakeConfig, tiny_run_in: TinyRunIn, tmp_path: Path
) -> None:
    run = tiny_run_in(tmp_path).but(ANALYSED)
    analyse = {name: make_config(*asked(tmp_path, [name]), entrypoint="analyse") for name in NAMES}
    with pytest.raises(ArtifactError, match=r"StepD in .* has not finished"):
        run_analyse(analyse["transfer"])
    run_stepd(run())
    with pytest.raises(ArtifactError, match=r"StepE in .* has not finished.*entrypoints\.stepe run_id=r"):
        run_analyse(analyse["ranking_stability"])
    run_pipeline(run({"evaluation.held_out": False}))
    with pytest.raises(ArtifactError, match="has no held_out_trials, held_out, contrasts; it has"):
        run_analyse(analyse["transfer"])
    assert not paths_of(tmp_path).analysis("transfer").exists()


@pytest.mark.usefixtures("_slow")
def test_an_analysis_cannot_take_the_place_of_a_part_of_the_summary(
    tiny_run_in: TinyRunIn, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slow, "summary_key", "chosen")
    config = tiny_run_in(results)(ANALYSED, overwrite=True)
    config.analysis = {"slow": {}}
    with pytest.raises(ConfigError, match="The summary has a part called chosen"):
        run_step6(config)


def test_figures_are_left_out_in_a_line_where_matplotlib_is_not_installed(
    results: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with caplog.at_level(logging.INFO):
        run_analyse(ask(["transfer"], "overwrite=true"))
    assert "The figures of transfer are not drawn: pip install 'function-vectors[figures]'." in caplog.messages
    assert not [*paths_of(results).analysis("transfer").glob("*.png")]
    assert (paths_of(results).analysis("transfer") / "transfer.csv").exists()
