"""A condition of an installed package chooses among shares or strengths without a layer, like the project's own."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from plug_ins import install
from tiny_runs import TinyRun

import fv
from fv.data.prompts import prompt_of
from fv.errors import ConfigError
from fv.evaluation import Candidate, condition_providers
from fv.evaluation.dev_choice import DevChoice
from fv.files import read_json, read_jsonl
from fv.interventions.edits import AddVector, LastTokenEdit, ReplaceResidual
from fv.interventions.naive import NaiveEngine
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.steps.pipeline import run_pipeline

QUIET = fv.Compute(progress=False)
SHARES, STRENGTHS = (0.25, 0.5, 1.0), (-3.0, 3.0)
PROVIDER = f'''
from dataclasses import dataclass
from typing import ClassVar

from fv.evaluation import Candidate, ConditionProvider
from fv.vectors import Option, Options, Scaled


@dataclass(frozen=True, eq=False)
class Moved(Options):
    """The residual stream after block 1, moved a share of the way to a vector."""

    values: object
    shares: tuple[float, ...] = {SHARES}

    @property
    def choices(self):
        return [Option(alpha=share) for share in self.shares]

    @property
    def without(self):
        return None

    def edit(self, option, stream):
        from fv.interventions.edits import ReplaceResidual

        return ReplaceResidual(1, self.values, option.alpha or 0.125)


@dataclass
class Shares(ConditionProvider):
    """The stream moved to the vector, and the vector added after block 0 if it helps."""

    made_of_others: ClassVar[bool] = True

    def of_vector(self, at):
        from fv.interventions.edits import AddVector

        values, fv = at.vector.values, at.vector.name
        added = Scaled(AddVector(0, values), 2.0, {STRENGTHS})
        yield Candidate("moved", options=Moved(values), fv=fv, minus=("fv",))
        yield Candidate("added_or_not", options=added, fv=fv, control_of=("fv",))
'''


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The package, as it is installed from the next command on."""
    names = "shares = outside.shares:Shares\n"
    install(monkeypatch, tmp_path / "site", "outside", {"shares": PROVIDER}, "function_vectors.conditions", names)
    condition_providers.cache_clear()
    yield
    condition_providers.cache_clear()


def moved(values: torch.Tensor, share: float) -> LastTokenEdit:
    return ReplaceResidual(1, values, share)


def added(values: torch.Tensor, alpha: float) -> LastTokenEdit:
    return AddVector(0, alpha * values) if alpha else None


def check_choices(
    lm: LanguageModel, values: torch.Tensor, trials: fv.Trials, dev: set[str], rows: pd.DataFrame
) -> None:
    """Compare the recorded options of one relation with the best by full forwards on its dev trials."""
    prompts = [prompt_of(lm, trials.snapshot, t, "zero_shot") for t in trials.snapshot.trials if t.trial_id in dev]
    there = rows.drop_duplicates("condition").set_index("condition")
    assert len(prompts) and there.loc[["moved", "added_or_not"], "layer"].isna().all()
    for name, make, alphas in (("moved", moved, SHARES), ("added_or_not", added, (0.0, *STRENGTHS))):
        found = NaiveEngine(lm).target_logprobs(prompts, [make(values, alpha) for alpha in alphas]).mean(0)
        assert there.loc[name, "alpha"] == alphas[int(found.argmax())], name


def test_a_notebook_chooses_shares_and_strengths_on_dev_trials(
    tiny_llama: LanguageModel, small_csv: Path, tmp_path: Path
) -> None:
    relations = fv.read_relations(small_csv, names=["antonym"])
    trials = fv.sample_trials(relations, tiny_llama, demos=2, fit=2, held_out=6)
    vector = fv.Vector.of(torch.randn(tiny_llama.d_model, generator=torch.Generator().manual_seed(0)))
    result = fv.evaluate(tiny_llama, vector, trials, layers=[0, 1], controls=["shares"], n_unrelated=2, compute=QUIET)
    dev = set(result.rows.loc[result.rows["part"] == "dev", "trial_id"])
    check_choices(tiny_llama, vector.values, trials, dev, result.trials)
    shown = result.table.set_index("condition").loc[["moved", "added_or_not"]]
    assert shown["layer"].isna().all() and shown["alpha"].notna().all()
    result.save(tmp_path / "result.npz")
    pd.testing.assert_frame_equal(fv.load_result(tmp_path / "result.npz").trials, result.trials)
    costs = result.tables["injection_cost"].set_index("condition")
    assert (costs["mean"] >= 0).all() and costs["mean"]["moved"] > 0
    # With one cell and one vector there are no dev trials, so each condition is run at its default.
    alone = fv.evaluate(tiny_llama, vector, trials, layers=1, controls=["shares"], n_unrelated=0, compute=QUIET)
    alphas = alone.table.set_index("condition")["alpha"]
    assert alphas["added_or_not"] == 2.0 and pd.isna(alphas["moved"])


@pytest.mark.slow
def test_a_run_reports_them_and_finds_them_again_without_a_search(
    tiny_run: TinyRun, tiny_llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = {f"evaluation.conditions.{name}.enabled": False for name in condition_providers() if name != "shares"}
    config = tiny_run(
        {"evaluation.held_out": True, "analysis.cost.n_texts": 2, "stats.n_resamples": 100, **off},
        {"data.n_eval_trials_per_q": 6, "data.qids": ["antonym", "verb_past"], "eval_scope.mode": "in_domain"},
        {"injection.fv": "all_qids", "injection.layer": [0, 1]},
    )
    folder, paths = run_pipeline(config), RunPaths.of(config)
    run = fv.open_run(paths.root)
    rows, grid = (pd.DataFrame(read_jsonl(folder / f"{name}.jsonl")) for name in ("held_out_trials", "eval_trials"))
    for name in ("antonym", "verb_past"):
        dev = set(grid.loc[(grid["part"] == "dev") & (grid["eval_qid"] == name), "trial_id"])
        check_choices(tiny_llama, run.vectors[name].values, run.trials, dev, rows[rows["eval_qid"] == name])
    costs = pd.read_csv(paths.analysis("cost") / "injection_cost.csv").set_index(["eval_qid", "condition"])
    recorded = rows.drop_duplicates(["eval_qid", "condition"]).set_index(["eval_qid", "condition"])["alpha"]
    assert costs["alpha"].equals(recorded[costs.index])
    summary = read_json(folder / "eval_summary.json")["held_out"]
    assert {row["layer"] for row in summary if row["condition"] in ("moved", "added_or_not")} == {None}
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".csv", ".jsonl")}
    for name in before:
        (folder / name).unlink()
    (folder / "eval_meta.json").unlink()

    def searched(*_: object) -> None:
        raise AssertionError("options were searched for a second time")

    monkeypatch.setattr(DevChoice, "best", searched)
    run_pipeline(config)
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_an_edit_that_is_not_wrapped_is_refused_with_the_mend() -> None:
    with pytest.raises(ConfigError, match=r"mine: options is a ReplaceResidual; wrap an edit in Fixed"):
        Candidate("mine", "zero_shot", ReplaceResidual(1, torch.ones(3)))  # type: ignore[arg-type]
