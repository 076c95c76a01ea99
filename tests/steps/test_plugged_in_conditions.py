"""Conditions of an installed package are run, switched and told like the project's own, without a change to it."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from commands import ROOT
from conftest import MakeConfig
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from plug_ins import install
from tiny_runs import TinyRun

import fv
from entrypoints.plug_ins import add_conditions
from fv.errors import ArtifactError
from fv.evaluation import condition_providers
from fv.files import read_json
from fv.models.language_model import LanguageModel
from fv.report.provenance import command_of
from fv.runs.paths import RunPaths
from fv.runs.run import open_run
from fv.steps.pipeline import run_pipeline
from fv.steps.step6 import run_step6

QUIET = fv.Compute(progress=False)

CONDITION = '''
from dataclasses import dataclass, replace

from fv.evaluation import Candidate, ConditionProvider
from fv.vectors import Injected


@dataclass
class Multiplied(ConditionProvider):
    """The vector at a multiple of its strength."""

    times: float = 2.0
    """How many times as strong."""

    def of_vector(self, at):
        cell = at.cell._replace(alpha=self.times * at.cell.alpha)
        yield Candidate("fv_multiplied", options=Injected(at.vector.values, cell), fv=at.vector.name, minus=("fv",))
'''
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTROL = PAGE.partition("## A condition")[2].partition("```python\n")[2].partition("```")[0]
"""The provider that the page shows."""
NAMES = """multiplied = outside.multiplied:Multiplied
reversed = outside.backwards:Reversed
broken = outside.broken:Broken
"""
ALL = ("multiplied", "reversed")


@pytest.fixture
def tiny_run(tiny_run: TinyRun) -> TinyRun:
    off = {f"evaluation.conditions.{name}.enabled": False for name in condition_providers() if name not in ALL}
    return tiny_run.but(
        {"evaluation.held_out": True},
        off,
        {
            "analysis.cost.n_texts": 2,
            "stats.n_resamples": 100,
            "data.n_eval_trials_per_q": 4,
            "data.qids": ["antonym", "verb_past"],
            "injection.fv": "all_qids",
            "injection.layer": [0, 1],
            "eval_scope.mode": "in_domain",
        },
    )


@pytest.fixture
def _outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A package with a condition, a control, and a module that fails to import, as it is from the next command on."""
    modules = {"multiplied": CONDITION, "backwards": CONTROL, "broken": "import a_module_that_nobody_has\n"}
    install(monkeypatch, tmp_path / "site", "outside", modules, "function_vectors.conditions", NAMES)
    store = ConfigStore.instance()
    before, schema = (store.load("config_schema.yaml").node for _ in range(2))
    condition_providers.cache_clear()
    add_conditions(schema)
    store.store(name="config_schema", node=schema)
    yield
    store.store(name="config_schema", node=before)
    condition_providers.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("_outside")
def test_conditions_of_an_installed_package_are_in_tables_summary_and_settings(
    tiny_run: TinyRun, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_run({"evaluation.conditions.multiplied.times": 3})
    folder = run_pipeline(config)
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in ("held_out", "contrasts")}
    costs = pd.read_csv(RunPaths.of(config).analysis("cost") / "injection_cost.csv")
    due = {"fv", "fv_multiplied", "reversed_vector"}
    assert set(tables["held_out"]["condition"]) == {"zero_shot", "few_shot", *due}
    assert set(costs["condition"]) == due
    pairs = set(tables["contrasts"][["condition", "minus"]].itertuples(index=False, name=None))
    assert pairs == {("fv", "few_shot"), ("fv_multiplied", "fv"), ("fv", "reversed_vector")}
    alphas = tables["held_out"].pivot_table(index="eval_qid", columns="condition", values="alpha")
    assert (alphas["fv_multiplied"] == 3 * alphas["fv"]).all()
    summary, meta = read_json(folder / "eval_summary.json"), read_json(folder / "eval_meta.json")
    assert {row["condition"] for row in summary["held_out"]} == set(tables["held_out"]["condition"])
    recorded = meta["config"]["evaluation"]["conditions"]
    assert recorded["multiplied"] == {"enabled": True, "times": 3.0} and recorded["reversed"] == {"enabled": True}
    assert meta["settings"]["evaluation.conditions"] == recorded


@pytest.mark.usefixtures("_outside")
def test_a_notebook_asks_for_them_by_name(tiny_llama: LanguageModel, small_csv: Path) -> None:
    relations = fv.read_relations(small_csv, names=["antonym"])
    trials = fv.sample_trials(relations, tiny_llama, demos=2, fit=2, held_out=4)
    vector = fv.Vector.of(torch.ones(tiny_llama.d_model))
    result = fv.evaluate(
        tiny_llama,
        vector,
        trials,
        layers=[0, 1],
        controls=["reversed"],
        n_unrelated=0,
        compute=QUIET,
    )
    assert set(result.trials["condition"]) == {"zero_shot", "few_shot", "fv", "reversed_vector"}
    contrasts = result.tables["contrasts"]
    assert set(contrasts.loc[contrasts["condition"] == "fv", "minus"]) == {"few_shot", "reversed_vector"}


@pytest.mark.usefixtures("_outside")
def test_settings_of_an_installed_package_are_checked_like_any_others(make_config: MakeConfig) -> None:
    for wrong, told in (
        ("multiplied.times=many", "evaluation.conditions.multiplied.times=many"),
        ("multiplied.time=3", "Could not override 'evaluation.conditions.multiplied.time'"),
        ("broken.enabled=true", "Could not override 'evaluation.conditions.broken.enabled'"),
    ):
        with pytest.raises(HydraException, match=told):
            make_config(f"evaluation.conditions.{wrong}")


@pytest.mark.slow
def test_a_package_that_is_installed_later_neither_refuses_a_run_nor_enters_the_command_that_repeats_it(
    tiny_run: TinyRun, request: pytest.FixtureRequest
) -> None:
    config = tiny_run()
    folder = run_pipeline(config)
    before, repeats = (folder / "eval_meta.json").read_bytes(), command_of(open_run(RunPaths.of(config).root))
    request.getfixturevalue("_outside")
    for asked in ({}, {f"evaluation.conditions.{name}.enabled": False for name in ALL}):
        run_step6(tiny_run(asked))
        assert (folder / "eval_meta.json").read_bytes() == before
    assert command_of(open_run(RunPaths.of(config).root)) == repeats
    with pytest.raises(ArtifactError, match=r"evaluation\.conditions\.multiplied\.enabled: there False, here True"):
        run_step6(tiny_run({"evaluation.conditions.multiplied.times": 3}))
    made_again = run_step6(tiny_run(overwrite=True))
    assert {"fv_multiplied", "reversed_vector"} <= set(pd.read_csv(made_again / "held_out.csv")["condition"])
