"""Whoever computes the units, in whatever order and however often: the results have the same bytes."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from clusters import Shuffled, differing, results_of, seen_by
from commands import ROOT, module
from plug_ins import install
from tiny_runs import Settings, TinyRun

from fv.cluster import GROUP
from fv.config import Config
from fv.errors import ArtifactError, ClusterError, ConfigError
from fv.progress import show_bars
from fv.runs.paths import RunPaths
from fv.steps import analyses, distributed
from fv.steps.pipeline import run_pipeline
from fv.steps.status import run_status
from fv.steps.worker import Worker

CASES: dict[str, Settings] = {
    "whole": {"injection.fv": ["all_qids", "aie_qid"], "compute.unit_trials": 1},
    "several k, all relations": {
        "injection.k": [1, 3],
        "injection.fv": ["all_qids", "aie_qid"],
        "eval_scope.mode": "all_qids",
    },
    "global": {"injection.fv": "global", "score.aie_qids": ["antonym", "verb_past"], "score.n_trials": 2},
    "adaptive": {"score.adaptive": True, "score.adaptive_step": 2, "data.n_trials_per_q": 8, "compute.unit_trials": 2},
    "screened": {"score.screen": "gradient", "score.k": 2, "score.verify": 2, "score.verify_random": 3},
    "other engine": {"compute.sweep": "expanded", "injection.alpha_unit": "residual", "score.layers": [1, 2]},
    "grid alone": {"analysis": [], "evaluation.held_out": False, "compute.max_rows": 64},
}


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """A worker in this process must not change how the tests log."""
    log = logging.getLogger("fv")
    handlers, level, propagate = [*log.handlers], log.level, log.propagate
    yield
    for handler in {*log.handlers} - {*handlers}:
        log.removeHandler(handler)
        handler.close()
    log.setLevel(level)
    log.propagate = propagate
    show_bars(True)


@pytest.fixture
def tiny_run(tiny_run: TinyRun) -> TinyRun:
    return tiny_run.but(
        {
            "data.n_trials_per_q": 4,
            "data.n_eval_trials_per_q": 4,
            "injection.layer": [0, 1],
            "stats.n_resamples": 100,
            "evaluation.held_out": True,
            "evaluation.conditions.random_vector.draws": 2,
            "evaluation.conditions.random_heads.draws": 1,
            "analysis.cost.n_texts": 2,
        }
    )


def shuffled(config: Config, seed: int = 0) -> Config:
    """The configuration of another run, whose units a cluster computes."""
    return replace(config, run_id="spread", cluster=Shuffled(seed=seed))


def folders(config: Config) -> tuple[Path, Path]:
    root = RunPaths.of(config).root
    return root, root.with_name("spread")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.cluster if case != "grid alone" else ()) for case in CASES]
)
def test_a_run_that_workers_compute_has_the_same_bytes(tiny_run: TinyRun, case: str) -> None:
    config = tiny_run(CASES[case])
    run_pipeline(config)
    spread = shuffled(config, seed=len(case))
    distributed.run_pipeline(spread)
    assert differing(*folders(config)) == []
    stages = [stage.partition(":")[0] for stage in seen_by(spread)]
    due = ["StepD, prompts", *(["StepD, screen"] if case == "screened" else []), "StepD, effects"]
    assert [*dict.fromkeys(stage for stage in stages if stage.startswith("StepD"))] == due


@pytest.mark.cluster
def test_other_units_and_other_orders_change_no_byte(tiny_run: TinyRun) -> None:
    config = tiny_run({"injection.fv": ["all_qids", "aie_qid"], "compute.unit_trials": 64})
    distributed.run_pipeline(replace(shuffled(config, seed=1), run_id="r"))
    distributed.run_pipeline(shuffled(tiny_run({"injection.fv": ["all_qids", "aie_qid"], "compute.unit_trials": 1})))
    assert differing(*folders(config)) == []


@pytest.mark.cluster
def test_a_finished_run_gives_nothing_to_do(tiny_run: TinyRun) -> None:
    config = shuffled(tiny_run())
    distributed.run_pipeline(config)
    again = replace(config, cluster=Shuffled())
    distributed.run_pipeline(again)
    assert seen_by(again) == []


@pytest.mark.cluster
def test_a_run_whose_metadata_were_never_written_goes_on(tiny_run: TinyRun) -> None:
    # A process that is killed may have written its trials and no word of what it is.
    config = tiny_run({"compute.unit_trials": 1})
    run_pipeline(config)
    run_pipeline(replace(config, run_id="spread"))
    RunPaths.of(shuffled(config)).stepd_meta.unlink()
    distributed.run_pipeline(shuffled(config))
    assert differing(*folders(config)) == []


@pytest.mark.cluster
def test_what_was_done_before_is_not_given_out_again(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_run({"compute.unit_trials": 1})
    run_pipeline(config)
    n_asked = 0
    compute = Worker.__call__

    def dying(self: Worker, ask: dict[str, object]) -> object:
        nonlocal n_asked
        n_asked += 1
        if n_asked % 9 == 0:
            raise MemoryError("planted")
        return compute(self, ask)

    monkeypatch.setattr(Worker, "__call__", dying)
    failures = 0
    for _ in range(20):
        try:
            distributed.run_pipeline(shuffled(config))
            break
        except ClusterError as error:
            assert "MemoryError: planted" in str(error)
            assert len(run_status(RunPaths.of(shuffled(config))).failed) >= 1
            failures += 1
    assert 2 <= failures < 15
    assert differing(*folders(config)) == []


@pytest.mark.cluster
def test_steps_one_by_one_end_like_the_pipeline(tiny_run: TinyRun) -> None:
    config = tiny_run()
    run_pipeline(config)
    spread = shuffled(config)
    for run in (distributed.run_stepd, distributed.run_stepe, distributed.run_step6):
        run(spread)
    assert differing(*folders(config)) == []


@pytest.mark.cluster
def test_overwrite_computes_everything_again_and_ends_the_same(tiny_run: TinyRun) -> None:
    config = shuffled(tiny_run())
    distributed.run_pipeline(config)
    before = results_of(RunPaths.of(config).root)
    again = replace(config, overwrite=True, cluster=Shuffled())
    distributed.run_pipeline(again)
    assert results_of(RunPaths.of(config).root) == before
    # StepD is not in the way, and stays.
    assert not [stage for stage in seen_by(again) if stage.startswith("StepD")]
    assert [stage for stage in seen_by(again) if stage.startswith("Step6, test trials")]


@pytest.mark.cluster
def test_a_run_grows_by_relations_and_then_by_cells(tiny_run: TinyRun) -> None:
    small = tiny_run({"data.qids": ["antonym", "verb_past"], "injection.layer": [0]})
    more, config = tiny_run({"injection.layer": [0]}), tiny_run({"injection.layer": [0, 2]})
    run_pipeline(config)
    seen = []
    for each in (small, more, config):
        spread = shuffled(each)
        distributed.run_pipeline(spread)
        seen.append(seen_by(spread))
    # Names with the number of layers and trials, from before it grew, stay.
    assert [name for name in differing(*folders(config)) if "step6_results" not in name] == []
    # Two relations' prompts were run already; then all were.
    assert "StepD, prompts: 2" in seen[1]
    assert not [stage for stage in seen[2] if stage.startswith("StepD")]


@pytest.mark.cluster
def test_an_analysis_of_a_finished_run_is_spread(tiny_run: TinyRun) -> None:
    config = tiny_run(analysis=[])
    run_pipeline(config)
    run_pipeline(replace(config, run_id="spread"))
    named = tiny_run(analysis=["cost"])
    analyses.run_analyse(named, given=())
    spread = shuffled(named)
    distributed.run_analyse(spread, given=())
    assert differing(*folders(config)) == []
    assert "cost, units: 3" in seen_by(spread)


@pytest.mark.cluster
def test_other_settings_are_refused_as_in_one_process(tiny_run: TinyRun) -> None:
    config = shuffled(tiny_run())
    distributed.run_pipeline(config)
    other = shuffled(tiny_run({"data.n_demos": 2}))
    with pytest.raises(ArtifactError, match=r"data\.n_demos: there 3, here 2"):
        distributed.run_pipeline(other)
    assert seen_by(other) == []


@pytest.mark.cluster
def test_the_cluster_that_the_page_shows_plugs_in(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## A cluster")[2]
    code = page.partition("```python\n")[2].partition("```")[0]
    package = tmp_path / "packages"
    install(
        monkeypatch, package, "more_clusters", {"threads": code}, GROUP, "threads = more_clusters.threads:Threads\n"
    )
    words = tiny_run.words()
    for name, more in {"alone": [], "threads": ["cluster=threads"]}.items():
        module("pipeline", *words, *more, f"run_id={name}", f"results_dir={tmp_path}", PYTHONPATH=str(package))
    assert differing(tmp_path / "relation" / "alone", tmp_path / "relation" / "threads") == []


def test_what_no_model_has_is_refused_by_its_setting(tiny_run: TinyRun) -> None:
    with pytest.raises(ConfigError, match=r"score\.layers"):
        distributed.run_pipeline(shuffled(tiny_run({"score.layers": [99]})))


@pytest.mark.cluster
def test_an_error_of_a_worker_reaches_whoever_gave_the_command(tiny_run: TinyRun) -> None:
    with pytest.raises(ClusterError, match=r"injection\.k"):
        distributed.run_pipeline(shuffled(tiny_run({"injection.k": [99]})))
