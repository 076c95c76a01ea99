"""Configuration: YAML and dataclasses agree, and a wrong setting is named before a model is loaded (spec section 3)."""

import ast
import dataclasses
import json
import re
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import ROOT, run
from conftest import MakeConfig
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hypothesis import given
from hypothesis import strategies as st

import fv
from entrypoints.app import typed
from entrypoints.command_line import print_help
from fv import config as c
from fv.analyses import analyses_of, known_analyses
from fv.config import Config
from fv.config.checks import check_name, name_after
from fv.config.presets import CONF
from fv.errors import ConfigError
from fv.evaluation import providers_of
from fv.runs.identity import flat

GROUPS: dict[str, Any] = {
    **{field.name: field.type for field in dataclasses.fields(Config) if dataclasses.is_dataclass(field.type)},
    "data/template": c.TemplateConfig,
}
"""The class of each group; `experiment` sets any of them and has none."""
del GROUPS["cluster"]  # whose choices are classes, and no files
FOLDERS = sorted({path.parent.relative_to(CONF).as_posix() for path in CONF.glob("*/**/*.yaml")} - {"hydra/launcher"})
MEMBERS = [
    (group, path.stem)
    for group in FOLDERS
    if group != "experiment"
    for path in sorted((ROOT / "conf" / group).glob("*.yaml"))
]
# What a choice cannot do without.
NEEDED = {
    ("model", "default"): ["model.path=/models/mine"],
    ("model", "local"): ["model.path=/models/mine"],
    ("eval_scope", "qid_list"): ["eval_scope.qids=[antonym]"],
    **{("data", form.value): ["data.path=p", "data.name=n"] for form in c.Form if form is not c.Form.auto},
}
ENTRYPOINTS = ["pipeline", "stepd", "stepe", "step6", "gather", "clean", "report", "data", "models"]


# YAML


@pytest.mark.parametrize("entrypoint", ENTRYPOINTS)
def test_the_composed_defaults_are_the_dataclass_defaults(make_config: MakeConfig, entrypoint: str) -> None:
    evaluation = c.EvaluationConfig(conditions=dict(providers_of({})))
    by_default = analyses_of({name: {} for name, analysis in known_analyses().items() if analysis.default})
    assert make_config(entrypoint=entrypoint) == Config(
        run_id="smollm2-default-seed42", evaluation=evaluation, analysis=dict(by_default)
    )


def test_an_analysis_is_run_only_if_it_is_named_where_analyses_are_asked_for(make_config: MakeConfig) -> None:
    assert make_config(entrypoint="analyse").analysis == {}
    (cost,) = make_config("analysis=[cost]", "analysis.cost.n_texts=3", entrypoint="analyse").analysis.items()
    assert cost == ("cost", analyses_of({"cost": {"n_texts": 3}})["cost"])
    assert cost[1].called("n_texts") == "analysis.cost.n_texts"


def test_every_group_has_its_class() -> None:
    assert {*FOLDERS} == {*GROUPS, "experiment"}


def own_values(group: str, member: str) -> dict[str, Any]:
    """What a file itself says of its group, nested settings under dotted keys."""
    text = (ROOT / "conf" / group / f"{member}.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    values.pop("defaults", None)
    return flat(values[group] if text.startswith("# @package _global_\n") else values)


def defaults_of(schema: Any) -> dict[str, Any]:
    """The defaults that a class declares, as plain values under dotted keys; None has them, not what checks make of it.

    A class inside it is a group of its own where there is a folder for it.
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(schema):
        if dataclasses.is_dataclass(field.type):
            inner = {} if field.type in GROUPS.values() else defaults_of(field.type)
            found |= {f"{field.name}.{key}": value for key, value in inner.items()}
        else:
            made = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            found[field.name] = made.value if isinstance(made, Enum) else made
    return flat(found)


@pytest.mark.parametrize("group", GROUPS)
def test_the_default_file_of_a_group_shows_every_setting_of_its_class_with_the_default(group: str) -> None:
    assert own_values(group, "default") == defaults_of(GROUPS[group])


@pytest.mark.parametrize("group", GROUPS)
def test_the_default_file_of_a_group_says_a_word_on_each_setting(group: str) -> None:
    lines = (ROOT / "conf" / group / "default.yaml").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.match(r" *\w+:", line) and line != "defaults:" and "  # " not in line] == []


@pytest.mark.parametrize(("group", "member"), [(g, m) for g, m in MEMBERS if m != "default"])
def test_another_member_holds_what_differs_alone(group: str, member: str) -> None:
    own, defaults = own_values(group, member), defaults_of(GROUPS[group])
    repeated = {key for key, value in own.items() if defaults[key] == value}
    # One that differs in nothing is the default under a name of its own.
    assert not repeated or repeated == own.keys()


@pytest.mark.slow
@pytest.mark.parametrize(("group", "member"), MEMBERS)
def test_every_member_composes_to_its_own_values_over_the_defaults(
    make_config: MakeConfig, group: str, member: str
) -> None:
    needed = NEEDED.get((group, member), [])
    found = flat(make_config(f"{group}={member}", *needed).resolved())
    given = {override.split("=")[0] for override in needed}
    prefix = group.replace("/", ".")
    expected = {f"{prefix}.{key}": v for key, v in (defaults_of(GROUPS[group]) | own_values(group, member)).items()}
    expected["injection.alpha"] = [1.0]  # one alpha is a list of one
    if group == "data":
        expected["data.relation_csv_path"] = found["data.relation_csv_path"]  # what the snapshot names as its source
    assert {key: found[key] for key in expected if key not in given} == {
        key: value for key, value in expected.items() if key not in given
    }


def test_the_preset_for_one_gpu_takes_another_format_and_names_its_relaxations(make_config: MakeConfig) -> None:
    config = make_config("compute=cuda", "compute.dtype=fp16")
    assert (config.compute.device, config.compute.dtype, config.compute.max_rows) == ("cuda", c.Dtype.fp16, "auto")
    assert not config.canonical and not config.compute.strict
    with pytest.raises(ConfigError, match="is not canonical"):
        make_config("compute=cuda", "compute.strict=true")


@pytest.mark.parametrize("model", ["smollm2", "llama31_8b", "local"])
def test_the_sharded_preset_places_whichever_model_is_chosen(make_config: MakeConfig, model: str) -> None:
    needed = NEEDED.get(("model", model), [])
    plain, sharded = (
        make_config(f"model={model}", *needed),
        make_config(f"model={model}", "compute=cuda_sharded", *needed),
    )
    assert sharded.model == dataclasses.replace(plain.model, device_map="auto")
    assert (sharded.compute.device, sharded.compute.dtype, sharded.canonical) == ("cpu", c.Dtype.bf16, False)
    own = make_config("compute=cuda_sharded", "model.device_map={model: 0, lm_head: 0}", "compute.dtype=fp16")
    assert (own.model.device_map, own.compute.dtype) == ({"model": 0, "lm_head": 0}, c.Dtype.fp16)


@pytest.mark.parametrize("entrypoint", ["stepd", "pipeline", "models"])
def test_the_presets_of_devices_are_shown_with_the_settings(
    entrypoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_help(entrypoint, "…")
    assert "one of cpu, cuda, cuda_sharded" in " ".join(capsys.readouterr().out.split())


def test_a_model_file_of_ones_own_has_nothing_of_the_default_model(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("name: mine\npath: /models/mine.gguf\n", encoding="utf-8")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = typed(compose("pipeline", ["model=mine", f"hydra.searchpath=[file://{tmp_path}]"]))
    assert config.model == c.ModelConfig(name="mine", path="/models/mine.gguf")


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


@pytest.mark.parametrize(
    ("path", "name"), [("sets/antonym.csv", "antonym"), ("sets/", "sets"), ("자료.csv", "csv"), ("..", "csv")]
)
def test_data_of_a_form_are_named_after_their_file(make_config: MakeConfig, path: str, name: str) -> None:
    config = make_config("data=csv", f"data.path='{path}'")
    assert (config.data.name, config.run_id) == (name, f"smollm2-{name}-seed42")
    assert make_config("data=csv", f"data.path='{path}'", "data.name=mine").data.name == "mine"


@given(st.text(st.characters(exclude_characters="\0")))
def test_a_name_after_a_file_is_always_one_that_a_folder_may_have(path: str) -> None:
    check_name("data.name", name_after(path, "csv"))


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
    for group in GROUPS.keys() - {"data/template"}:
        assert resolved[group].keys() == {field.name for field in dataclasses.fields(GROUPS[group])}


def test_the_settings_of_conditions_go_by_their_keys(make_config: MakeConfig) -> None:
    conditions = make_config().evaluation.conditions
    assert conditions.keys() == providers_of({}).keys()
    for name, provider in conditions.items():
        assert provider.called("enabled") == f"evaluation.conditions.{name}.enabled"


# What is imported


def test_a_configuration_is_checked_without_loading_torch() -> None:
    code = (
        "import sys\n"
        "from fv.config.presets import CONF\n"
        "from hydra import compose, initialize_config_dir\n"
        "from entrypoints.app import typed\n"
        "with initialize_config_dir(str(CONF), version_base='1.3'):\n"
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
    assert "torch" in found["interventions/hooks.py"] and "hydra" in imported_by(ROOT / "entrypoints" / "app.py")
    assert [name for name, packages in found.items() if packages & {"hydra", "omegaconf", "entrypoints"}] == []
