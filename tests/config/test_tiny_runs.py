"""The tests' own configurations, made without Hydra, are those that a command with the same words has."""

import pytest
from analysed import ANALYSED
from conftest import MakeConfig
from tiny_runs import Settings, TinyRun

from fv.errors import ConfigError


@pytest.mark.parametrize(
    "changes",
    [
        {},
        ANALYSED,
        {"analysis": []},
        {"analysis": ["null", "cost"], "analysis.null.screen": "run", "analysis.cost.n_texts": 3},
        {"injection.fv": ["global", "qid"], "injection.fv_source_qid": "a b", "injection.alpha": [1, 2.5]},
        {"eval_scope.mode": "qid_list", "eval_scope.qids": ["010", "null"], "tag": "off", "overwrite": True},
        {"compute.dtype": "fp64", "compute.strict": False, "compute.max_rows": "auto", "data.split": "shared"},
        {"model.device_map": {"model": "disk", "lm_head": "cpu"}, "compute.strict": False},
        {"evaluation.controls.weaker": [], "evaluation.conditions.random_vector.form": "isotropic"},
    ],
)
def test_settings_make_what_hydra_composes_of_their_words(
    make_config: MakeConfig, tiny_run: TinyRun, changes: Settings
) -> None:
    assert tiny_run(changes) == make_config(*tiny_run.words(changes))


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("n_demos", "n_demos"),
        ("data.n_demo", "n_demo"),
        ("evaluation.conditions.random_vectors.draws", "random_vectors"),
        ("evaluation.conditions.random_vector.draw", "draw"),
        ("analysis.cots.n_texts", "cots"),
    ],
)
def test_a_key_of_no_setting_is_refused(tiny_run: TinyRun, key: str, told: str) -> None:
    with pytest.raises((AttributeError, ConfigError), match=rf"\b{told}\b"):
        tiny_run({key: 1})
