"""Configuration: YAML and dataclasses agree, and a wrong setting is named before a model is loaded (spec section 3)."""

import ast
import dataclasses
import json
import re
from enum import Enum
from pathlib import Path

import pytest
import yaml
from commands import ROOT, run
from conftest import MakeConfig
from hydra.errors import HydraException

import fv
from fv import config as c
from fv.config import Config
from fv.errors import ConfigError

GROUPS = {
    "model": c.ModelConfig,
    "data": c.DataConfig,
    "score": c.ScoreConfig,
    "injection": c.InjectionConfig,
    "eval_scope": c.EvalScopeConfig,
    "evaluation": c.EvaluationConfig,
    "stats": c.StatsConfig,
    "compute": c.ComputeConfig,
}
GROUP_FILES = [(group, path.stem) for group in GROUPS for path in sorted((ROOT / "conf" / group).glob("*.yaml"))]
# What a choice cannot do without.
NEEDED = {
    ("model", "local"): ["model.path=/models/mine"],
    ("eval_scope", "qid_list"): ["eval_scope.qids=[antonym]"],
    **{("data", form.value): ["data.path=p", "data.relation_csv_path=p"] for form in c.Form if form is not c.Form.auto},
}
ENTRYPOINTS = ["pipeline", "stepd", "stepe", "step6", "gather", "clean", "data", "models"]


# YAML


@pytest.mark.parametrize("entrypoint", ENTRYPOINTS)
def test_the_composed_defaults_are_the_dataclass_defaults(make_config: MakeConfig, entrypoint: str) -> None:
    assert make_config(entrypoint=entrypoint) == Config(run_id="smollm2-default-seed42")


def test_every_group_has_its_choices() -> None:
    assert {group for group, _ in GROUP_FILES} == set(GROUPS)
    assert {path.name for path in (ROOT / "conf").iterdir() if path.is_dir() and path.name != "__pycache__"} == {
        *GROUPS,
        "experiment",
    }


def values_in(group: str, choice: str) -> dict[str, object]:
    """What a file says, over what the files say that it builds on."""
    own = yaml.safe_load((ROOT / "conf" / group / f"{choice}.yaml").read_text(encoding="utf-8"))
    values: dict[str, object] = {}
    for below in own.pop("defaults", []):
        if isinstance(below, dict):
            values |= {name: values_in(f"{group}/{name}", file) for name, file in below.items()}
        elif below != "_self_":
            values |= values_in(group, below)
    return values | own


@pytest.mark.parametrize(("group", "choice"), GROUP_FILES)
def test_every_choice_composes_to_the_values_in_its_file(make_config: MakeConfig, group: str, choice: str) -> None:
    needed = NEEDED.get((group, choice), [])
    found = make_config(f"{group}={choice}", *needed).resolved()[group]
    written = values_in(group, choice)
    assert written.keys() == {field.name for field in dataclasses.fields(GROUPS[group])}
    given_here = {override.split("=")[0].split(".")[1] for override in needed}
    # One alpha is a list of one.
    written = {key: [value] if key == "alpha" else value for key, value in written.items()}
    assert {k: v for k, v in found.items() if k not in given_here} == {
        k: v for k, v in written.items() if k not in given_here
    }


@pytest.mark.parametrize("experiment", [path.stem for path in sorted((ROOT / "conf" / "experiment").glob("*.yaml"))])
def test_every_experiment_composes_and_has_a_run_of_its_own(make_config: MakeConfig, experiment: str) -> None:
    config = make_config(f"experiment={experiment}")
    assert config.run_id == experiment
    assert config != Config(run_id=experiment)


def test_an_override_beats_the_experiment(make_config: MakeConfig) -> None:
    assert make_config("experiment=demo", "score.k=7", "run_id=mine").score.k == 7


# What is typed on the command line


def test_a_run_is_named_after_model_data_and_seed(make_config: MakeConfig) -> None:
    assert make_config("model=gpt2", "data.name=mine", "seed=7").run_id == "gpt2-mine-seed7"


def test_names_of_relations_stay_the_strings_they_are(make_config: MakeConfig) -> None:
    assert make_config("data.qids=[010,country_capital,8]").data.qids == ["010", "8", "country_capital"]


@pytest.mark.parametrize("name", ["true", "1e3", "1_000", "NaN"])
def test_names_of_relations_that_look_like_values_can_be_quoted(make_config: MakeConfig, name: str) -> None:
    assert make_config(f'data.qids=["{name}"]').data.qids == [name]


def test_relations_are_sorted_so_that_their_order_changes_nothing(make_config: MakeConfig) -> None:
    a, b = (
        make_config("data.qids=[b,a]", "score.aie_qids=[b,a]"),
        make_config("data.qids=[a,b]", "score.aie_qids=[a,b]"),
    )
    assert a == b


@pytest.mark.parametrize("key", ["data.n_trails_per_q", "injection.alphas", "nonsense"])
def test_a_wrong_key_is_refused_by_name(make_config: MakeConfig, key: str) -> None:
    with pytest.raises(HydraException, match=f"Could not override '{re.escape(key)}'"):
        make_config(f"{key}=1")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("data.n_demos", value) for value in ("many", "2.5", "true", "null", "[3]")),
        *(("seed", "abc"), ("run_id", "null"), ("data.allow_drop", "perhaps"), ("data.qids", "antonym")),
        *(("data.split", "none"), ("score.key", "accuracy"), ("eval_scope.mode", "some")),
        *(("compute.dtype", "int8"), ("compute.sweep", "fast"), ("model.quant", "int4")),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_its_key(make_config: MakeConfig, key: str, value: str) -> None:
    with pytest.raises(HydraException, match=re.escape(f"{key}={value}")) as caught:
        make_config(f"{key}={value}")
    assert f"full_key: {key}\n" in f"{caught.value.__cause__}\n"


@pytest.mark.parametrize(
    ("override", "choices"),
    [
        ("model=gpt5", "mistral_7b\n\tolmo2_1b"),
        ("eval_scope=most", "in_domain\n\tqid_list"),
        ("experiment=x", "demo"),
    ],
)
def test_an_unknown_choice_is_refused_with_the_choices(make_config: MakeConfig, override: str, choices: str) -> None:
    with pytest.raises(HydraException, match=f"Could not find '{override.replace('=', '/')}'") as caught:
        make_config(override)
    assert choices in str(caught.value)


@pytest.mark.parametrize("override", ["data.n_demos=0", "tag=a/b", "injection.layer=-1", "model.path=/models/mine"])
def test_a_check_of_ours_reaches_the_user_as_it_is(make_config: MakeConfig, override: str) -> None:
    with pytest.raises(ConfigError, match=override.split("=")[0]):
        make_config(override)


# The resolved configuration


def leaves(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves(inner)]
    return [leaf for inner in value for leaf in leaves(inner)] if isinstance(value, list) else [value]


@pytest.mark.parametrize(
    "overrides", [[], ["experiment=demo"], ["model=gpt2", "injection.layer=[2,1]", "data.qids=[010]"]]
)
def test_the_resolved_configuration_is_plain_json(make_config: MakeConfig, overrides: list[str]) -> None:
    resolved = make_config(*overrides).resolved()
    assert json.loads(json.dumps(resolved, allow_nan=False)) == resolved
    assert not any(isinstance(leaf, Enum) for leaf in leaves(resolved))


def test_every_setting_is_in_the_resolved_configuration() -> None:
    resolved = Config().resolved()
    assert resolved.keys() == {field.name for field in dataclasses.fields(Config)}
    for group, schema in GROUPS.items():
        assert resolved[group].keys() == {field.name for field in dataclasses.fields(schema)}


# What is imported


def test_a_configuration_is_checked_without_loading_torch() -> None:
    code = (
        "import sys\n"
        "import fv.config\n"
        "from hydra import compose, initialize_config_module\n"
        "from entrypoints.app import typed\n"
        "with initialize_config_module('conf', version_base='1.3'):\n"
        "    print(typed(compose('pipeline', ['seed=3'])).run_id)\n"
        "print(*{'torch', 'transformers', 'pandas', 'scipy'} & sys.modules.keys())"
    )
    done = run("-c", code)
    assert done.stdout == "smollm2-default-seed3\n\n"


def imported_by(path: Path) -> set[str]:
    """The top-level packages a source file imports, wherever in the file."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    from_ = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.split(".")[0] for name in plain | from_}


def test_no_module_of_the_library_knows_hydra() -> None:
    folder = Path(str(fv.__file__)).parent
    found = {path.relative_to(folder).as_posix(): imported_by(path) for path in folder.rglob("*.py")}
    assert "torch" in found["hooks.py"] and "hydra" in imported_by(ROOT / "entrypoints" / "app.py")
    assert [name for name, packages in found.items() if packages & {"hydra", "omegaconf", "entrypoints"}] == []
