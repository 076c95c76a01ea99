"""Sweeps over any setting: a place for each job, found again by the same command, or a refusal before the first job."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from commands import module
from conftest import MakeConfig
from hypothesis import given
from hypothesis import strategies as st

from entrypoints.places import placed
from fv.config import Config, DataConfig, InjectionConfig, ScoreConfig
from fv.config.checks import check_name
from fv.files import read_json

SMALL = ["data.qids=[antonym]", "injection.layer=1", "analysis=[]", "stats.n_resamples=100", "quiet=true"]


def named(*jobs: Sequence[str], configs: Sequence[Config]) -> list[tuple[str, str | None]]:
    """Run and tag of each job."""
    return [(config.run_id, config.tag) for config in placed(jobs, configs, None)[1]]


def test_what_stepd_depends_on_makes_a_run_each_and_what_stepe_depends_on_a_tag_each() -> None:
    jobs = [[f"data.n_demos={n}", f"score.k={k}", f"injection.layer={n}"] for n in (2, 4) for k in (5, 8)]
    configs = [Config(data=DataConfig(n_demos=n), score=ScoreConfig(k=k)) for n in (2, 4) for k in (5, 8)]
    assert named(*jobs, configs=configs) == [(f"run-data.n_demos-{n}", f"score.k-{k}") for n in (2, 4) for k in (5, 8)]


def test_settings_of_step6_and_names_of_runs_need_no_other_place() -> None:
    jobs = [["seed=1", "injection.layer=8", "evaluation=grid"], ["seed=2", "injection.layer=9", "evaluation=full"]]
    assert named(*jobs, configs=[Config(run_id=f"seed{n}") for n in (1, 2)]) == [("seed1", None), ("seed2", None)]
    one_name = [Config(run_id="mine", seed=n, tag="t") for n in (1, 2)]
    assert named(*jobs, configs=one_name) == [("mine-seed-1", "t"), ("mine-seed-2", "t")]


def test_where_settings_of_later_steps_decide_earlier_ones_they_are_placed_as_those() -> None:
    jobs = [["score.k=5", "injection.layer=1"], ["score.k=8", "injection.layer=2"]]
    adaptive = [Config(score=ScoreConfig(k=k, adaptive=True)) for k in (5, 8)]
    assert named(*jobs, configs=adaptive) == [("run-score.k-5", None), ("run-score.k-8", None)]
    quick = [Config(score=ScoreConfig(k=k), injection=InjectionConfig(quick_eval=True)) for k in (5, 8)]
    assert named(*jobs, configs=quick) == [("run", f"score.k-{k}+injection.layer-{n}") for k, n in ((5, 1), (8, 2))]


@given(st.lists(st.text(min_size=1), min_size=2, max_size=6, unique=True), st.text("ab", min_size=1, max_size=110))
def test_no_two_values_share_a_place_and_every_place_has_a_name_for_a_folder(values: list[str], run_id: str) -> None:
    jobs = [[f"data.clusters_path={value}"] for value in values]
    names = [name for name, _ in named(*jobs, configs=[Config(run_id=run_id)] * len(jobs))]
    assert len(set(names)) == len(names)
    for name in names:
        check_name("run_id", name)


def test_a_swept_setting_has_its_place_where_jobs_come_one_at_a_time() -> None:
    jobs = [["data.n_demos=2", "seed=1"]]
    (overrides,), (config,) = placed(jobs, [Config()], swept=["data.n_demos"])
    assert config.run_id == "run-data.n_demos-2" and "run_id='run-data.n_demos-2'" in overrides


@pytest.mark.slow
def test_a_sweep_over_any_setting_writes_what_single_jobs_write_and_goes_on_as_it_began(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    words = [*tiny_overrides, *SMALL, "data/template=arrow,qa", "score.k=2,3"]
    module("pipeline", "-m", *words)
    runs = tmp_path / "relation"
    summaries = {path.relative_to(runs): path for path in sorted(runs.glob("*/artifacts/step6/*/eval_summary.json"))}
    assert [(path.parts[0], path.parts[3]) for path in summaries] == [
        (f"r-data.template-{name}", f"score.k-{k}") for name in ("arrow", "qa") for k in (2, 3)
    ]
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("units/*")}
    said = module("pipeline", "-m", *(word for word in words if word != "quiet=true"))
    assert said.stderr.count("Step6 in") == said.stderr.count("is complete already") // 3 == 4
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("units/*")} == before

    module("pipeline", *tiny_overrides, *SMALL, "data/template=arrow", "score.k=3", "run_id=single")
    single = runs / "single" / "artifacts" / "step6" / "eval_summary.json"
    swept = runs / "r-data.template-arrow" / "artifacts" / "step6" / "score.k-3" / "eval_summary.json"
    assert swept.read_bytes() == single.read_bytes()


@pytest.mark.slow
def test_a_template_that_is_swept_is_read_as_it_is_typed(tiny_overrides: list[str], tmp_path: Path) -> None:
    swept = r'data.template.query="{exA} =\t","{exA} =\n"'
    module("stepd", "-m", *tiny_overrides, *SMALL, "data.n_trials_per_q=1", swept)
    prompts = {
        read_json(path)["trials"][0]["zero_shot_prompt_str"].rpartition(" =")[2]
        for path in tmp_path.glob("relation/*/artifacts/sampled_trials.json")
    }
    assert prompts == {"\t", "\n"}


@pytest.mark.parametrize(
    ("command", "words", "told"),
    [
        ("pipeline", ["evaluation.held_out=true", "evaluation.dev_fraction=0", "injection.layer=0,1"], "of 2 cells"),
        ("pipeline", ["score.k=2,0"], "because one of them is not possible: score.k=0\nscore.k=0 must be 1 or more"),
        ("step6", ["score.k=2,3"], "score.k-2: settings of score are StepE's. Give the sweep to"),
    ],
)  # fmt: skip
def test_what_could_not_be_gathered_is_refused_before_the_first_job(
    command: str, words: list[str], told: str, tiny_overrides: list[str], tmp_path: Path
) -> None:
    done = module(command, "-m", *tiny_overrides, *words, code=1)
    assert told in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "relation").exists()


@pytest.mark.slow
def test_another_summary_in_the_way_is_said_before_the_first_job_and_a_smaller_one_grows(
    make_config: MakeConfig, tiny_overrides: list[str], tmp_path: Path
) -> None:
    words = [*tiny_overrides, *SMALL]
    step6 = tmp_path / "relation" / "r" / "artifacts" / "step6"
    module("pipeline", "-m", *words, "injection.layer=0,1")
    module("pipeline", "-m", *words, "injection.layer=0,1,2")
    assert read_json(step6 / "eval_summary.json")["layers"] == [0, 1, 2]
    cells = {*step6.glob("cells/*")}
    done = module("pipeline", "-m", *words, "injection.layer=0,1", "injection.alpha=3,4", code=1)
    assert (
        "injection.layer: there [0, 1, 2], here [0, 1]" in done.stderr and "The sweep's cells are kept" in done.stderr
    )
    assert {*step6.glob("cells/*")} == cells
