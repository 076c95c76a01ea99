"""The whole pipeline on the embedded model: known heads are found, and their vectors work on held-out queries."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import MakeConfig

from fv.steps.pipeline import run_pipeline


@pytest.fixture(scope="module")
def step6(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_pipeline(
        make_config(
            *("model=smollm2", "data.qids=[country_demonym,verb_past]", "run_id=real", "score.k=20"),
            *("data.n_trials_per_q=5", "data.n_demos=8", "data.n_eval_trials_per_q=20"),
            *(
                "injection.fv=all_qids",
                "eval_scope=all_qids",
                "injection.layer=[12,14,16,18,20]",
                "injection.alpha=2.0",
            ),
            f"results_dir={tmp_path_factory.mktemp('real')}",
        )
    )


@pytest.mark.slow
def test_injected_vectors_answer_held_out_queries_that_the_model_gets_wrong(step6: Path) -> None:
    rows = pd.DataFrame(json.loads((step6 / "eval_summary.json").read_text())["rows"])
    in_domain = rows[rows["fv"] == rows["eval_qid"]]
    best = in_domain.groupby("eval_qid")["accuracy_delta"].max()
    assert (best >= 0.15).all(), best
    assert (in_domain.groupby("eval_qid")["mean_delta_logprob"].max() > 1).all()


@pytest.mark.slow
def test_the_heads_that_carry_relations_in_smollm2_are_found(step6: Path) -> None:
    top = json.loads((step6.parent / "top_heads.json").read_text())["per_qid"]
    known = {(20, 5), (14, 1), (18, 6)}
    for q_id, heads in top.items():
        assert known <= {(head["layer"], head["head"]) for head in heads[:10]}, q_id


@pytest.mark.slow
def test_vectors_beat_their_controls_on_trials_that_chose_nothing(step6: Path) -> None:
    contrasts = pd.read_csv(step6 / "contrasts.csv")
    own = contrasts[(contrasts["fv"] == contrasts["eval_qid"]) & (contrasts["subset"] == "all")]
    by_pair: Any = own[own["metric"] == "logprob"].set_index(["condition", "minus"])
    for control in ("random_vector", "random_heads", "bottom_heads", "corrupted_prompts"):
        assert (by_pair.loc[("fv", control), "ci_low"] > 0).all(), control
    # The heads are used where the examples are right, too: in verb_past, at least. For the names of peoples, random
    # heads of the same layers are as necessary.
    past = by_pair[by_pair["eval_qid"] == "verb_past"]
    assert (past.loc[("ablated_top_heads", "ablated_random_heads"), "ci_high"] < 0).all()
    assert (by_pair["n"] == 14).all()
