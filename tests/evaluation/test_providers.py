"""Providers of conditions: one of one's own is held to the rules, and settings are checked by name."""

from dataclasses import MISSING, fields
from typing import Any

import pytest
import torch
from families import tiny
from setting_docs import explained

from fv.config import AlphaUnit, EvaluationConfig
from fv.errors import ConfigError
from fv.evaluation import (
    Candidate,
    ConditionProvider,
    RelationContext,
    VectorContext,
    condition_providers,
    only,
    providers_of,
)
from fv.evaluation.candidates import CandidatesOfRelations
from fv.interventions.engine import Cell
from fv.models.language_model import LanguageModel
from fv.vectors.options import Injected
from fv.vectors.vector import Vector

HERE = Cell(1, 2.0)
CELLS = [HERE]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny("llama")


class Own(ConditionProvider):
    """Yields what it is given."""

    made: tuple[Candidate, ...] = ()

    def of_relation(self, at: object) -> tuple[Candidate, ...]:
        return self.made


def with_own(monkeypatch: pytest.MonkeyPatch, lm: LanguageModel, *made: Candidate) -> list[Candidate]:
    monkeypatch.setattr(Own, "made", made)
    monkeypatch.setattr("fv.evaluation.conditions.condition_providers", lambda: {"own": Own})
    of_relations = CandidatesOfRelations(EvaluationConfig(), AlphaUnit.vector, 0, lm, None, None, CELLS)
    return of_relations.of("a", [(Vector("file", "file", None, torch.ones(lm.d_model)), HERE)]).own


def test_a_prompt_that_is_edited_is_run_unedited_too(monkeypatch: pytest.MonkeyPatch, lm: LanguageModel) -> None:
    mine = Candidate("mine", "corrupted", Injected(torch.ones(lm.d_model), HERE))
    found = with_own(monkeypatch, lm, mine)
    assert [(c.name, c.prompt) for c in found if not c.options.is_edit] == [
        ("zero_shot", "zero_shot"),
        ("few_shot", "clean"),
        ("few_shot_corrupted", "corrupted"),
    ]
    assert mine in found


def test_two_conditions_of_one_name_are_refused_by_it(monkeypatch: pytest.MonkeyPatch, lm: LanguageModel) -> None:
    with pytest.raises(ConfigError, match=r"2 conditions are called mine \(vector '', draw 0\)"):
        with_own(monkeypatch, lm, Candidate("mine"), Candidate("mine", "clean"))


def test_an_unknown_kind_of_prompt_is_refused_with_the_kinds() -> None:
    with pytest.raises(ConfigError, match=r"mine: prompt='few' must be one of zero_shot, clean, corrupted"):
        Candidate("mine", "few")


def test_a_control_of_another_shape_is_refused_with_both(lm: LanguageModel) -> None:
    relation = RelationContext(lm, "a", CELLS, 0, None)
    at = VectorContext(relation, Vector("file", "file", None, torch.ones(lm.d_model)), HERE, None, {}, True)
    with pytest.raises(ConfigError, match=r"mine has a vector of shape \(1, 40\); it must be \(40,\)"):
        at.control("mine", torch.ones(1, 40))


# Settings


@pytest.mark.parametrize("name", list(condition_providers()))
def test_every_provider_says_what_it_provides_and_what_each_setting_does(name: str) -> None:
    provider = condition_providers()[name]
    assert provider.__doc__ and not provider.__doc__.startswith(f"{provider.__name__}(")
    assert explained(provider) == {own.name for own in fields(provider)} - {"enabled"}
    assert all(own.default is not MISSING or own.default_factory is not MISSING for own in fields(provider))


def test_settings_are_given_as_providers_or_as_plain_values() -> None:
    random_vector: Any = condition_providers()["random_vector"]
    for given in (random_vector(draws=3), {"draws": 3}):
        found = providers_of({"random_vector": given})
        assert found == providers_of({}) | {"random_vector": random_vector(draws=3)}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"random_vectors": {}}, r"no condition called 'random_vectors'. Near it: random_vector"),
        ({"xyz": {}}, r"no condition called 'xyz'. There are layer_mean, refits, random_vector, "),
        ({"random_vector": {"drws": 3}}, r"no setting of random_vector called 'drws'. Near it: draws"),
        ({"random_vector": {"draws": "many"}}, r"^random_vector\.draws='many' is not possible: .*integer"),
        ({"random_vector": {"draws": 0}}, r"^random_vector\.draws=0 must be 1 or more"),
        ({"bottom_heads": False}, r"^bottom_heads=False must be settings of bottom_heads, such as bottom_heads\.<"),
        ({"bottom_heads": Own()}, r"^bottom_heads=Own\(.*must be settings of bottom_heads"),
    ],
)
def test_impossible_settings_are_refused_by_name(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        providers_of(given)


def test_only_those_named_are_enabled_and_an_unknown_one_is_refused() -> None:
    assert [name for name, own in only(["mean_of_others", "random_heads"]).items() if own.enabled] == [
        "random_heads",
        "mean_of_others",
    ]
    with pytest.raises(ConfigError, match="no condition called 'random'"):
        only(["random"])
    assert only(["random_vectors"])["random_vector"].enabled  # its name in version 0.1.0
