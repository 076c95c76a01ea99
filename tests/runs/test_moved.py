"""Settings that went by other keys are read as what they stood for."""

from fv.config import Config, EvaluationConfig, plain
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
    "random_vector": {"enabled": True, "draws": 2},
    "random_heads": {"enabled": False, "draws": 10},
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
    kept = {"evaluation.controls.weaker": [0.25], "analysis.cost.n_texts": 12, "analysis.cost.texts_path": "mine.txt"}
    there = {"evaluation.controls.weaker": [], "analysis.cost.n_texts": 2, "analysis.cost.texts_path": None}
    assert as_recorded({"evaluation": OLD}, kept) == there


def test_an_older_sweep_is_gathered_with_the_conditions_and_analyses_that_it_asked_for() -> None:
    older = {key: value for key, value in Config().resolved().items() if key != "analysis"}
    config = config_of({"config": {**older, "evaluation": OLD}})
    expected = providers_of(TODAY)
    assert providers_of(config.evaluation.conditions) == expected
    assert config.evaluation.controls.weaker == []
    cost = {"n_texts": 2, "texts_path": None}
    assert config.analysis == {"cost": cost, "ranking_stability": {}, "transfer": {}}
    assert config_of({"config": older}).analysis == {"cost": {}, "ranking_stability": {}, "transfer": {}}


def test_todays_settings_are_read_back_as_they_are() -> None:
    analyses = {"cost": {"n_texts": 3, "texts_path": None}}
    config = Config(evaluation=EvaluationConfig(conditions=dict(providers_of(TODAY))), analysis=analyses)
    again = config_of({"config": config.resolved()})
    assert again.analysis == analyses
    assert providers_of(again.evaluation.conditions) == config.evaluation.conditions
    settings = flat(config.resolved())
    assert under_todays_keys(settings) == settings


def test_conditions_that_went_by_another_name_are_read_by_todays() -> None:
    recorded = {"evaluation": {"conditions": {**TODAY, "random_vectors": {"enabled": True, "draws": 7}}}}
    del recorded["evaluation"]["conditions"]["random_vector"]
    asked = {f"evaluation.conditions.{key}": value for key, value in flat(TODAY).items()}
    assert as_recorded(recorded, asked) == {**asked, "evaluation.conditions.random_vector.draws": 7}
    older = Config().resolved()
    kept = config_of({"config": {**older, "evaluation": {**older["evaluation"], **recorded["evaluation"]}}})
    assert plain(providers_of(kept.evaluation.conditions)["random_vector"])["draws"] == 7
