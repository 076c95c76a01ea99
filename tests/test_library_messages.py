"""What the library says names its own arguments; a run's settings are named where a run is, and there they all are."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from conftest import MakeConfig

from fv.analyses import Analysis
from fv.analyses.cost import Cost
from fv.config import ColumnsConfig, Config, DataConfig, EvaluationConfig, InjectionConfig, ModelConfig
from fv.data.relations import read_configured
from fv.errors import ConfigError, FvError, RelationError
from fv.evaluation.cells import grid
from fv.heads.ranking import heads_to_sweep, top_heads
from fv.steps.remedies import REMEDIES, with_remedies

FV = Path(__file__).parent.parent / "fv"
ROOMS = ("work", "models", "data", "interventions", "heads", "vectors", "evaluation", "statistics")
LEAVES = (
    *("characters.py", "markup.py", "errors.py", "seeding.py", "progress.py", "display.py", "shipped.py"),
    *("files.py", "tables.py", "registry.py"),
)
PLANNED = ("gather", "cluster")
"""Groups that there may be one day."""


class Said(NamedTuple):
    """A string of the code and the line it stands on."""

    file: str
    line: int
    text: str


def keys_of(settings: Any, prefix: str = "") -> Iterator[str]:
    """The dotted keys of all settings and of the groups inside others."""
    for own in fields(settings):
        value = getattr(settings, own.name)
        if prefix:
            yield f"{prefix}{own.name}"
        if is_dataclass(value):
            yield from keys_of(value, f"{prefix}{own.name}.")


GROUPS = [own.name for own in fields(Config) if is_dataclass(getattr(Config(), own.name))] + ["analysis"]
# `compute` is an argument of the library, too.
GIVEN = sorted({*GROUPS, *PLANNED} - {"compute"})
FORBIDDEN = re.compile(
    "|".join(
        (
            rf"(?<!fv\.)\b(?:{'|'.join(map(re.escape, keys_of(Config())))})\b",
            rf"\b(?:{'|'.join(GIVEN)})(?:\.[a-z_]+)*\s*=",
            r"StepD|StepE|Step6|entrypoint|\brun_id\b|results_dir|overwrite=|\btag=",
        )
    )
)


def strings_of(source: str, file: str = "") -> Iterator[Said]:
    """Every string of a module, docstrings and the parts of f-strings too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield Said(file, node.lineno, node.value)


def library() -> Iterator[Path]:
    for place in (*ROOMS, *LEAVES):
        found = [FV / place] if place in LEAVES else sorted((FV / place).rglob("*.py"))
        assert found and all(path.is_file() for path in found), f"{place} is no part of fv any more"
        yield from found


def test_the_library_names_no_setting_no_step_and_no_command() -> None:
    said = [one for path in library() for one in strings_of(path.read_text("utf-8"), str(path.relative_to(FV)))]
    assert len(said) > 500
    wrong = [f"{one.file}:{one.line}: {found[0]}" for one in said if (found := FORBIDDEN.search(one.text))]
    assert not wrong, "Name the argument; a step says which setting it is:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    "source",
    [
        'raise E(f"score.k={k} is too many")',
        '"Ask for fewer, or say data.allow_drop=true."',
        '"data.columns names three columns"',
        'f"{what}: say model=smollm2"',
        'def f():\n    """Raised where `injection.alpha_unit` is residual."""',
        'f"the heads that StepD swept, {n}"',
        '"Run python -m entrypoints.stepe first."',
        '"report.page = true"',
    ],
)
def test_a_settings_key_in_a_string_is_found(source: str) -> None:
    assert any(FORBIDDEN.search(one.text) for one in strings_of(source))


@pytest.mark.parametrize(
    "source",
    ['"`fv.data.kin_groups.kin_groups`"', '"model.layers.0.mlp"', 'f"{name}=nf4 needs bitsandbytes"', '"k=20"'],
)
def test_names_of_modules_and_arguments_are_no_settings(source: str) -> None:
    assert not any(FORBIDDEN.search(one.text) for one in strings_of(source))


# What a setting is called


def test_settings_made_by_hand_go_by_their_own_names() -> None:
    assert DataConfig().called("n_demos") == "n_demos"
    assert DataConfig().columns.called("q_id") == "q_id"
    assert EvaluationConfig().controls.called("cell") == "cell"


def test_settings_of_a_run_go_by_their_keys(make_config: MakeConfig) -> None:
    for config in (Config(), make_config("score.k=3")):
        for key in keys_of(config):
            group, _, name = key.rpartition(".")
            owner: Any = config
            for part in group.split("."):
                owner = getattr(owner, part)
            assert owner.called(name) == key


def test_what_settings_are_called_is_no_part_of_what_they_are() -> None:
    assert Config().data == DataConfig() and Config().resolved()["data"].keys() == {f.name for f in fields(DataConfig)}


# The same refusal, by hand and in a run


def two_heads() -> pd.DataFrame:
    return pd.DataFrame({"layer": [0, 0], "head": [0, 1], "mean_delta_logprob": [1.0, 2.0]})


def refusals(data: DataConfig, injection: InjectionConfig, cost: Analysis) -> Iterator[str]:
    for ask in (lambda: read_configured(data), lambda: grid(injection, 3), cost.check):
        with pytest.raises(FvError) as error:
            ask()
        yield str(error.value)


def test_a_refused_setting_goes_by_the_name_under_which_it_was_given(make_config: MakeConfig) -> None:
    by_hand = refusals(DataConfig(path="/nowhere"), InjectionConfig(layer=7), Cost(n_texts=99))
    config = make_config("data.path=/nowhere", "injection.layer=7", "analysis.cost.n_texts=99")
    of_run = refusals(config.data, config.injection, config.analysis["cost"])
    names = [("path", "data.path"), ("layer", "injection.layer"), ("n_texts", "analysis.cost.n_texts")]
    for (name, key), alone, of_it in zip(names, by_hand, of_run, strict=True):
        assert re.search(rf"(?<![.\w]){name}\b", alone) and key not in alone and key in of_it


def test_a_refused_argument_goes_by_the_name_that_a_check_is_given() -> None:
    with pytest.raises(ConfigError, match=r"^k=3 is more than the 2 heads"):
        top_heads(two_heads(), "mean_delta_logprob", 3)
    with pytest.raises(ConfigError, match=r"^injection\.k=3 is more than the 2 heads"):
        top_heads(two_heads(), "mean_delta_logprob", 3, name="injection.k")
    with pytest.raises(ConfigError, match=r"^score\.layers=\[9\]"):
        heads_to_sweep([9], "all", 2, 2, called=Config().score.called)


def test_the_columns_to_name_are_those_of_the_settings(tmp_path: Path, make_config: MakeConfig) -> None:
    (tmp_path / "t.csv").write_text("task,a,b\nq,x,y\n", encoding="utf-8")
    with pytest.raises(RelationError, match=r" q_id=<name>, exA=<name>, exB=<name>"):
        read_configured(DataConfig(path=str(tmp_path / "t.csv"), columns=ColumnsConfig()))
    with pytest.raises(RelationError, match=r"data\.columns\.q_id=<name>, data\.columns\.exA=<name>"):
        read_configured(make_config(f"data.path={tmp_path / 't.csv'}").data)


def test_other_ways_to_a_model_are_settings_of_a_run_or_arguments() -> None:
    assert ModelConfig(path="x").ways == ("path=<folder>", "smollm2", "id=<hub id>")
    assert Config().model.ways == ("model=local model.path=<folder>", "model=smollm2", "model.id=<hub id>")


# What steps add


@pytest.mark.parametrize("kind", REMEDIES)
def test_a_step_adds_the_settings_that_mend_an_error(kind: type[FvError]) -> None:
    with pytest.raises(kind) as error, with_remedies():
        raise kind("It does not do.")
    named = re.findall(rf"\b(?:{'|'.join(GROUPS)})\.\w+", str(error.value))
    assert str(error.value).startswith("It does not do. ") and named
    assert {*named} <= {*keys_of(Config())}


def test_a_step_leaves_other_errors_as_they_are() -> None:
    with pytest.raises(FvError) as error, with_remedies():
        raise ConfigError("k=3 is too many.")
    assert str(error.value) == "k=3 is too many."
