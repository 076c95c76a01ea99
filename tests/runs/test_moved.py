"""Settings that went by other keys are read as what they stood for."""

from fv.config import Config, EvaluationConfig
from fv.evaluation import providers_of
from fv.runs.identity import as_recorded, flat
from fv.runs.moved import under_todays_keys
from fv.runs.sweep_cells import config_of

OLD = {
    "dev_fraction": 0.3,
    "held_out": True,
    "controls": {
        "cell": "own",
        "weaker": [],
        "random_vectors": 2,
        "random_heads": 0,
        "bottom_heads": False,
        "other_relation": True,
        "mean_of_others": True,
        "corrupted": True,
    },
    "baselines": False,
    "necessity": True,
    "n_unrelated": 2,
    "unrelated_path": None,
}
"""The settings of the evaluation as a run has them that was made before each condition had its own."""
TODAY = {
    "layer_mean": {"enabled": False},
    "random_vectors": {"enabled": True, "draws": 2},
    "random_heads": {"enabled": False, "draws": 3},
    "bottom_heads": {"enabled": False},
    "corrupted_prompts": {"enabled": True},
    "other_relation": {"enabled": True},
    "mean_of_others": {"enabled": True},
    "ablated_heads": {"enabled": True, "draws": 0},
    "few_shot_corrupted": {"enabled": False},
}
"""The same of its conditions today."""


def test_an_older_runs_conditions_are_those_that_its_settings_stood_for() -> None:
    asked = {f"evaluation.conditions.{key}": value for key, value in flat(TODAY).items()}
    assert as_recorded({"evaluation": OLD}, asked) == asked
    kept = {"evaluation.controls.weaker": [0.25], "evaluation.n_unrelated": 12}
    assert as_recorded({"evaluation": OLD}, kept) == {"evaluation.controls.weaker": [], "evaluation.n_unrelated": 2}


def test_an_older_sweep_is_gathered_with_the_conditions_that_it_asked_for() -> None:
    config = config_of({"config": {**Config().resolved(), "evaluation": OLD}})
    expected = providers_of(TODAY)
    assert providers_of(config.evaluation.conditions) == expected
    assert config.evaluation.controls.weaker == [] and config.evaluation.n_unrelated == 2


def test_todays_settings_are_read_back_as_they_are() -> None:
    config = Config(evaluation=EvaluationConfig(conditions=dict(providers_of(TODAY))))
    again = config_of({"config": config.resolved()})
    assert providers_of(again.evaluation.conditions) == config.evaluation.conditions
    settings = flat(config.resolved())
    assert under_todays_keys(settings) == settings
