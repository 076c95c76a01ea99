"""What a notebook computes is what the pipeline computes: the same calls, the same bits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import TINY_QIDS, MakeConfig, loaded
from tiny_runs import TinyRun

import fv
from fv.config import Config
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.steps.pipeline import run_pipeline

DEMO_QIDS = ["antonym", "capitalize", "country_capital", "country_language", "english_french", "verb_past"]


def sampled(config: Config, lm: LanguageModel, path: Path | None, names: Sequence[str] | None) -> fv.Trials:
    """The trials of a run's settings, by plain arguments."""
    data = config.data
    return fv.sample_trials(
        fv.read_relations(path, names=names),
        lm,
        demos=data.n_demos,
        fit=data.n_trials_per_q,
        held_out=data.n_eval_trials_per_q,
        seed=config.seed,
    )


def same(one: pd.DataFrame, other: pd.DataFrame, **tolerance: Any) -> None:
    """Refuse tables that differ in anything but the types that files cannot tell."""
    other = other[[*one.columns]].astype(one.dtypes.to_dict())
    pd.testing.assert_frame_equal(one.reset_index(drop=True), other.reset_index(drop=True), **tolerance)


def check_effects(effects: fv.Effects, run: fv.Run) -> None:
    exact = {"check_exact": True}
    same(effects.table, run.table("cie_scores"), **exact)
    same(effects.mean().table, run.table("aie_scores"), **exact)
    same(pd.concat([own.intervals for own in effects.values()]), run.table("cie_stats"), **exact)
    same(effects.mean().intervals, run.table("aie_stats"), **exact)
    same(effects.prompts, run.table("trial_metrics"), **exact)
    for q_id, means in effects.means.items():
        for name in ("clean", "corrupted", "residual", "residual_norm"):
            assert torch.equal(getattr(means, name), getattr(run.effects.means[q_id], name))


def check_vectors(lm: LanguageModel, effects: fv.Effects, run: fv.Run, k: int) -> list[fv.Vector]:
    """Every vector of a run made again; those of the relations' own heads are given back."""
    by_aie = effects.mean().top(k)
    own = [fv.function_vector(lm, effects[q_id], k) for q_id in effects]
    others = [fv.function_vector(lm, effects[q_id], heads=by_aie) for q_id in effects]
    made = {vector.name: vector for vector in [*own, *others, fv.function_vector(lm, effects.mean(), k)]}
    # A relation whose own best heads are the AIE's has one vector by two names.
    assert {*made} | {f"{name}@aie" for name in effects} == {*run.vectors}
    for name, vector in made.items():
        stored = run.vectors[name]
        assert torch.equal(vector.values, stored.values)
        assert (vector.heads, vector.k, vector.kind) == (stored.heads, stored.k, stored.kind)
    return own


def check_result(result: fv.Result, run: fv.Run) -> None:
    exact = {"check_exact": True}
    same(result.rows, run.table("eval_trials"), **exact)
    same(result.trials, run.table("held_out_trials"), **exact)
    for name, table in result.tables.items():
        same(table, run.table(name), **exact)
    assert result.warnings == run.result.warnings
    same(result.table, run.result.table, **exact)
    same(result.cells, run.result.cells, **exact)
    chosen = pd.DataFrame(run.record("eval_summary")["chosen"]).set_index(["fv", "eval_qid"])
    of_run = chosen.loc[pd.MultiIndex.from_frame(result.cells[["fv", "eval_qid"]])].reset_index()
    same(result.cells, of_run, **exact)
    assert result.cells["relative_norm"].notna().all()


@pytest.fixture
def full_run(tiny_run: TinyRun) -> tuple[Config, fv.Run]:
    config = tiny_run(
        {
            "data.n_eval_trials_per_q": 4,
            "injection.fv": "all_qids",
            "injection.alpha": [1, 2],
            "eval_scope.mode": "all_qids",
            "evaluation.held_out": True,
            "analysis.cost.n_texts": 2,
            "stats.n_resamples": 2000,
        }
    )
    run_pipeline(config)
    return config, fv.open_run(RunPaths.of(config).root)


@pytest.mark.slow
def test_a_notebooks_numbers_are_the_pipelines_to_the_bit(full_run: tuple[Config, fv.Run], small_csv: Path) -> None:
    config, run = full_run
    lm = loaded(config)
    trials = sampled(config, lm, small_csv, None)
    assert trials.snapshot.trials == run.trials.snapshot.trials
    effects = fv.indirect_effects(lm, trials)
    check_effects(effects, run)
    own = check_vectors(lm, effects, run, config.score.k)
    result = fv.evaluate(
        lm, own, trials, alphas=config.injection.alpha, effects=effects, n_unrelated=config.analysis["cost"].n_texts
    )
    check_result(result, run)


@pytest.mark.slow
def test_the_demos_relations_give_a_notebook_the_pipelines_numbers(
    make_config: MakeConfig, smollm2: LanguageModel, tmp_path: Path
) -> None:
    """Fewer trials and cells than the demo, all its relations and vectors."""
    config = make_config(
        *("experiment=demo", f"results_dir={tmp_path}", "compute.selfcheck=false", "score.k=4"),
        *("score.layers=[11,14,17,18]", "data.n_trials_per_q=2", "data.n_demos=3", "data.n_eval_trials_per_q=4"),
        *(
            "injection.fv=all_qids",
            "eval_scope.mode=all_qids",
            "injection.layer=[11,17]",
            "injection.alpha=[1,2]",
            "analysis.cost.n_texts=2",
        ),
        # A notebook's controls have their defaults.
        *("evaluation.controls.weaker=[0.25,0.0625]", "evaluation.conditions.random_vector.draws=20"),
    )
    run_pipeline(config)
    run = fv.open_run(RunPaths.of(config).root)
    assert list(run.trials) == DEMO_QIDS
    trials = sampled(config, smollm2, None, DEMO_QIDS)
    effects = fv.indirect_effects(smollm2, trials, layers=config.score.layers)
    check_effects(effects, run)
    own = check_vectors(smollm2, effects, run, config.score.k)
    layers, alphas = config.injection.layer, config.injection.alpha
    result = fv.evaluate(smollm2, own, trials, layers=layers, alphas=alphas, effects=effects, n_unrelated=2)
    check_result(result, run)


def test_one_relation_alone_has_the_numbers_it_has_among_others(tiny_llama: LanguageModel) -> None:
    relations = fv.read_relations(names=TINY_QIDS)
    together = fv.sample_trials(relations, tiny_llama, demos=3, fit=3, held_out=3)
    alone = together["antonym"]
    assert list(alone) == ["antonym"] and alone.snapshot.trials == [
        trial for trial in together.snapshot.trials if trial.q_id == "antonym"
    ]
    one, several = fv.indirect_effects(tiny_llama, alone), fv.indirect_effects(tiny_llama, together)
    same(one["antonym"].table, several["antonym"].table, check_exact=True)
