"""The ready models and templates: read without Hydra, they are what Hydra makes of them."""

import re

import pytest
from commands import ROOT
from conftest import MakeConfig

from fv import config as c
from fv.errors import ConfigError


@pytest.mark.slow
@pytest.mark.parametrize("name", c.model_presets())
def test_a_ready_model_is_the_same_with_and_without_hydra(make_config: MakeConfig, name: str) -> None:
    assert c.model_preset(name) == make_config(f"model={name}").model


@pytest.mark.parametrize("name", c.template_presets())
def test_a_ready_template_is_the_same_with_and_without_hydra(make_config: MakeConfig, name: str) -> None:
    assert c.template_preset(name) == make_config(f"data/template={name}").data.template


def test_every_file_is_a_ready_model_but_the_two_that_need_a_path() -> None:
    assert {*c.model_presets(), "local", "default"} == {path.stem for path in (ROOT / "conf/model").glob("*.yaml")}
    assert {*c.template_presets(), "default"} == {path.stem for path in (ROOT / "conf/data/template").glob("*.yaml")}


def test_a_change_to_a_ready_model_is_no_change_to_the_next() -> None:
    c.model_preset("gpt2").revision = "other"
    assert c.model_preset("gpt2").revision is None


@pytest.mark.parametrize(
    ("name", "near"),
    [("gpt-2", "gpt2"), ("pythia_410", "pythia_410m"), ("SmolLM2", "smollm2"), ("../data/csv", "gpt2")],
)
def test_an_unknown_ready_model_is_refused_with_those_that_are_near(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=rf"no model called '{re.escape(name)}'\. .*{near}"):
        c.model_preset(name)


def test_an_unknown_ready_template_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no template called 'zz'\. There are arrow, bare, input_output, korean, qa"):
        c.template_preset("zz")
