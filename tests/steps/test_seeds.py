"""Runs that differ in their seed only, averaged over their seeds."""

import pandas as pd
import pytest
from tiny_runs import TinyRun, TinyRunIn

from fv.config import Config
from fv.errors import ArtifactError
from fv.files import read_json
from fv.report.terminal import print_gathered
from fv.runs.paths import RunPaths
from fv.runs.table_files import read_table
from fv.steps.gather import run_gather
from fv.steps.pipeline import run_pipeline
from fv.steps.seeds import seeds_of_one_setting
from fv.steps.step6 import run_step6

SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def tiny_run(tiny_run_in: TinyRunIn, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    return tiny_run_in(tmp_path_factory.mktemp("results")).but(
        {
            "stats.n_resamples": 200,
            "analysis.cost.n_texts": 0,
            "data.qids": ["antonym", "verb_past"],
            "data.n_trials_per_q": 3,
            "data.n_demos": 2,
            "data.n_eval_trials_per_q": 5,
            "score.k": 2,
        }
    )


@pytest.fixture(scope="module")
def configs(tiny_run: TinyRun) -> list[Config]:
    made = [tiny_run(seed=seed, run_id=f"seed{seed}") for seed in SEEDS]
    for config in made:
        run_pipeline(config)
    return made


@pytest.mark.slow
def test_the_mean_over_seeds_is_the_mean_of_the_runs_means(
    tiny_run: TinyRun, configs: list[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_gather(tiny_run(runs=["seed1", "seed2", "seed3"]))
    for name, key in (("held_out.csv", ["draw"]), ("contrasts.csv", ["minus"])):
        by = ["fv", "eval_qid", "condition", *key, "subset", "metric"]
        runs = [pd.read_csv(RunPaths.of(config).step6 / name, keep_default_na=False) for config in configs]
        due = pd.concat(runs).groupby(by)["mean"].agg(["mean", "size"])
        found = pd.read_csv(folder / name, keep_default_na=False).set_index(by)
        assert len(found) == (due["size"] == 3).sum() > 0
        assert (found["n_seeds"] == 3).all()
        assert found["mean"].to_numpy() == pytest.approx(due.loc[found.index, "mean"].to_numpy(), rel=1e-12)
        assert ((found["ci_low"] <= found["mean"] + 1e-12) & (found["mean"] <= found["ci_high"] + 1e-12)).all()
    heads = pd.read_csv(folder / "top_heads.csv")
    assert heads.groupby("ranking")["n_runs"].sum().to_dict() == {"antonym": 6, "global": 6, "verb_past": 6}
    assert read_json(folder / "over_seeds.json")["seeds"] == [1, 2, 3]
    print_gathered(folder)
    printed = capsys.readouterr().out
    assert "Means over the seeds 1, 2, 3" in printed
    table = read_table(folder / "held_out.csv")
    own = table[(table["condition"] == "fv") & (table["metric"] == "delta_logprob") & (table["subset"] == "all")]
    assert own["mean"].size and all(f"{mean:+.1f}" in printed for mean in own["mean"])
    # Beside the effect stands what wrong examples do not give, in log p and as a logit difference.
    assert "minus corrupted" in " ".join(printed.split())
    differences = [
        pd.read_csv(RunPaths.of(config).step6 / "contrasts.csv", keep_default_na=False) for config in configs
    ]
    minus = pd.concat(differences).query("condition == 'fv' and minus == 'corrupted_prompts' and subset == 'all'")
    for (fv, q_id), rows in minus.groupby(["fv", "eval_qid"]):
        name = str(fv) if fv == q_id else f"{fv} → {q_id}"
        # A narrow terminal has the columns in blocks, each with the names.
        line = " ".join(line for line in printed.splitlines() if line.startswith(f" {name}  "))
        for metric in ("logprob", "logit_difference"):
            assert f"{rows.loc[rows['metric'] == metric, 'mean'].astype(float).mean():+.1f} [" in line


@pytest.mark.slow
def test_what_runs_warn_of_is_said_of_their_mean(tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    small = {"data.qids": ["antonym"], "injection.layer": 1}
    for seed in (1, 2):
        run_pipeline(tiny_run({"data.split": "shared"}, small, seed=seed, run_id=f"shared{seed}"))
    folder = run_gather(tiny_run(runs=["shared1", "shared2"]))
    told = [line for line in read_json(folder / "over_seeds.json")["warnings"] if "chose the heads" in line]
    capsys.readouterr()
    print_gathered(folder)
    assert len(told) == 1 and f"Mind: {told[0]}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
@pytest.mark.usefixtures("configs")
def test_runs_of_one_tokenisation_are_averaged_however_they_spell_it(tiny_run: TinyRun) -> None:
    run_pipeline(tiny_run({"model.add_special_tokens": False}, seed=5, run_id="spelled"))
    folder = run_gather(tiny_run(runs=["seed1", "spelled"]))
    assert read_json(folder / "over_seeds.json")["seeds"] == [1, 5]


@pytest.mark.slow
def test_runs_of_other_settings_are_not_averaged(tiny_run: TinyRun, configs: list[Config]) -> None:
    run_pipeline(tiny_run({"score.k": 1}, seed=4, run_id="other"))
    with pytest.raises(ArtifactError, match=r"score\.k: there 1, here 2|score\.k: there 2, here 1"):
        run_gather(tiny_run(runs=["seed1", "other"]))
    with pytest.raises(ArtifactError, match="each of another seed"):
        run_gather(tiny_run(runs=["seed1", "seed1"]))
    grid = tiny_run.but({"evaluation.held_out": False}, tag="grid")
    for config in configs[:2]:
        run_step6(grid(seed=config.seed, run_id=config.run_id))
    with pytest.raises(ArtifactError, match=r"seed1.*has no contrasts\.csv, held_out\.csv\. .*evaluation=full"):
        run_gather(grid(runs=["seed1", "seed2"]))
    with pytest.raises(ArtifactError, match=r"no Step6 in .*nowhere"):
        run_gather(tiny_run(runs=["seed1", "nowhere"]))
    folders = [RunPaths.of(config).step6 for config in configs]
    other = RunPaths(folders[0].parents[2] / "other").step6
    assert seeds_of_one_setting([*folders, other]) == [folders]
