"""`injection.fv` names makers beside the kinds of vectors: made before the grid, kept as units, and evaluated alike."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clusters import Shuffled, differing, seen_by
from maker_trials import OUTSIDE
from plug_ins import install
from tiny_runs import TinyRun

from fv.config import Config, InjectionConfig
from fv.errors import ArtifactError, ConfigError
from fv.files import read_json
from fv.pricing.evaluation import evaluation_stages
from fv.progress import show_bars
from fv.report.provenance import command_of
from fv.runs.live_run import LiveRun
from fv.runs.paths import RunPaths
from fv.runs.run import open_run
from fv.steps import distributed
from fv.steps.gather import refuse_unfit_sweep
from fv.steps.model_holder import ModelHolder
from fv.steps.pipeline import run_pipeline
from fv.steps.plan import model_of, workload_of
from fv.steps.status import run_status
from fv.vectors import makers
from fv.vectors.makers import injected_makers, maker_classes
from fv.vectors.makers.mean_difference import MeanDifference

STATES = {
    "injection.fv": ["layer_mean", "all_qids"],
    "injection.makers": {"layer_mean": {"use": "added", "query": "dummy"}},
}
"""Vectors of a maker that runs prompts of its own."""
FV = {"injection.fv": ["all_qids", "mean_difference"]}


@pytest.fixture
def tiny_run(tiny_run: TinyRun) -> Iterator[TinyRun]:
    yield tiny_run.but(
        {
            "evaluation.held_out": True,
            "evaluation.conditions.random_vector.draws": 2,
            "evaluation.conditions.refits.draws": 2,
            "evaluation.conditions.random_heads.draws": 1,
            "evaluation.conditions.ablated_heads.enabled": False,
            "analysis": ["cost", "transfer"],
            "analysis.cost.n_texts": 2,
            "stats.n_resamples": 100,
            "data.n_eval_trials_per_q": 4,
            "data.qids": ["antonym", "verb_past"],
            "injection.layer": [0, 2],
            "injection.alpha": [0.5, 1],
        }
    )
    show_bars(True)


def rows_of(config: Config) -> "dict[str, np.ndarray]":
    """{vector: its injected log p}, in the order of files."""
    rows = open_run(RunPaths.of(config).root).table("eval_trials")
    return {str(fv): own["injected_logprob"].to_numpy() for fv, own in rows.groupby("fv")}


def test_a_makers_vectors_are_evaluated_beside_others_and_found_by_analyses(tiny_run: TinyRun) -> None:
    config, alone = tiny_run(FV), tiny_run({"injection.fv": "all_qids"}, tag="own")
    run_pipeline(config)
    run_pipeline(alone)
    run = open_run(RunPaths.of(config).root)
    live = LiveRun.of(config, ModelHolder().of)
    (antonym, _, made, _) = vectors = live.injected
    assert [vector.name for vector in vectors] == [
        *("antonym", "verb_past", "antonym@mean_difference", "verb_past@mean_difference")
    ]
    assert torch.equal(made.values, live.effects.means_of("antonym").difference)
    rows = run.table("eval_trials")
    of_made = rows[rows["fv"] == made.name]
    assert {*of_made["fv_kind"]} == {"mean_difference"}
    assert {*of_made["eval_qid"]} == {"antonym"}
    assert {*zip(of_made["layer"], of_made["norm"], strict=True)} == {(at, made.norm_at(at)) for at in (0, 2)}
    mine = rows_of(config)
    for fv, numbers in rows_of(alone).items():
        np.testing.assert_array_equal(mine[fv], numbers)
    held_out = run.table("held_out")
    conditions = {*held_out.loc[held_out["fv"] == made.name, "condition"]}
    assert {"fv", "random_vector", "few_shot_corrupted_fv"} <= conditions
    assert not conditions & {"random_heads", "fv_refit", "corrupted_prompts", "bottom_heads", "other_relation"}
    assert antonym.name in {*held_out.loc[held_out["condition"] == "random_heads", "fv"]}
    assert made.name in {*run.table("injection_cost")["fv"]}
    assert made.name in {*run.table("fv_cosines")["fv"]}


def test_a_killed_run_goes_on_after_the_last_vector(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    config, computed = tiny_run(FV, analysis=[]), list[str]()
    compute = MeanDifference.compute

    def dying(self: MeanDifference, of: object, *more: object) -> object:
        if computed == ["antonym"]:
            computed.append("killed")
            raise KeyboardInterrupt
        computed.append(of.q_id)  # type: ignore[attr-defined]
        return compute(self, of, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(MeanDifference, "compute", dying)
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(config)
    (units,) = (own for own in run_status(RunPaths.of(config)).units if own.kind == "maker")
    assert (units.units, list(units.relations), list(units.lacking)) == (1, ["antonym"], ["verb_past"])
    run_pipeline(config)
    assert computed == ["antonym", "killed", "verb_past"]
    whole = replace(config, run_id="whole")
    run_pipeline(whole)
    assert differing(RunPaths.of(config).root, RunPaths.of(whole).root) == []


def test_workers_make_the_same_bytes(tiny_run: TinyRun) -> None:
    config = tiny_run(STATES)
    run_pipeline(config)
    spread = replace(config, run_id="spread", cluster=Shuffled(seed=3))
    assert {"injection.makers.layer_mean.use=added"} <= {*command_of(open_run(RunPaths.of(config).root)).split()}
    distributed.run_pipeline(spread)
    assert differing(RunPaths.of(config).root, RunPaths.of(spread).root) == []
    assert {"Step6, states: 2", "Step6, makers: 2"} <= {*seen_by(spread)}


def test_the_price_has_the_makers(tiny_run: TinyRun) -> None:
    config = tiny_run(STATES, analysis=[])
    load = workload_of(config, model_of(config.plan, config.model, config.compute).lm)
    plain = workload_of(tiny_run({"injection.fv": "all_qids"}, analysis=[]), load.lm)
    more, own = ({stage.name: stage for stage in evaluation_stages(each)} for each in (load, plain))
    assert more["states"].work.n_prompts == 2 * 3
    flops = [stages["grid"].work.flops(load.shape) for stages in (more, own)]
    assert flops[0] > 1.2 * flops[1]
    config = tiny_run({"injection.fv": "set_heads"}, analysis=[])
    with pytest.raises(ConfigError, match="set_heads are no injections"):
        evaluation_stages(workload_of(config, load.lm))


def test_settings_of_a_maker_decide_the_run(tiny_run: TinyRun) -> None:
    settings = {"injection.fv": "function_vector", "injection.makers": {"function_vector": {"k": 2, "heads": "aie"}}}
    config = tiny_run(settings, analysis=[])
    run_pipeline(config)
    meta = read_json(RunPaths.of(config).step6 / "eval_meta.json")
    assert meta["settings"]["injection.makers.function_vector"] == {"k": 2, "heads": "aie"}
    other = tiny_run(settings, {"injection.makers": {"function_vector": {"k": 3, "heads": "aie"}}}, analysis=[])
    with pytest.raises(ArtifactError, match=r"function_vector\.k: there 2, here 3"):
        run_pipeline(other)


def test_a_maker_from_outside_is_injected(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(
        *(monkeypatch, tmp_path / "site", "a_maker", {"first": OUTSIDE}),
        *(makers.GROUP, "first_prompt = a_maker.first:FirstPrompt\n"),
    )
    maker_classes.cache_clear()
    try:
        settings = {"injection.fv": "first_prompt", "injection.makers": {"first_prompt": {"factor": 0.5}}}
        config = tiny_run(settings, {"injection.fv_source_qid": "antonym"})
        run_pipeline(config)
        assert [*rows_of(config)] == ["antonym@first_prompt"]
    finally:
        monkeypatch.undo()
        maker_classes.cache_clear()


def test_edits_that_are_no_injections_are_refused(tiny_run: TinyRun) -> None:
    config = tiny_run({"injection.fv": ["all_qids", "set_heads"]}, analysis=[])
    with pytest.raises(ConfigError, match=r"set_heads are no injections .*'analysis=\[baselines\]'"):
        run_pipeline(config)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"fv": "mean_diference"}, "There is no value of fv called 'mean_diference'. Near it: mean_difference"),
        ({"fv": "named_heads"}, "The maker named_heads needs makers.named_heads.heads"),
        ({"fv": "layer_mean", "makers": {"layer_mean": {"us": "add"}}}, "setting of makers.layer_mean called 'us'"),
        ({"fv": "layer_mean", "makers": {"layer_mean": {"use": "ad"}}}, "makers.layer_mean.use='ad'"),
    ],
)
def test_an_impossible_maker_is_refused_before_a_model_is_loaded(settings: dict[str, object], told: str) -> None:
    injection = InjectionConfig(**settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=re.escape(told)):
        injected_makers(injection)


def test_jobs_that_each_have_a_part_of_the_cells_are_refused(tiny_run: TinyRun) -> None:
    configs = [tiny_run(FV, {"injection.layer": layer}) for layer in (0, 1)]
    with pytest.raises(ConfigError, match="no jobs of a sweep"):
        refuse_unfit_sweep(configs, own_vectors=False)
    refuse_unfit_sweep(configs[:1], own_vectors=False)
