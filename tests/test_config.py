"""Configuration: YAML and dataclasses agree, and a wrong setting is named before a model is loaded (spec section 3)."""

import ast
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, MakeConfig
from hydra.errors import HydraException
from hypothesis import given
from hypothesis import strategies as st

import fv
from fv import config as c
from fv.config import Config, DataConfig, EvalScopeConfig, InjectionConfig, ModelConfig, ScoreConfig, TemplateConfig
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
ENTRYPOINTS = ["pipeline", "stepd", "stepe", "step6", "gather", "data", "models"]


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
        *(("data.split", "none"), ("score.key", "accuracy"), ("injection.fv", "best"), ("eval_scope.mode", "some")),
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


# Checks of one group and across groups


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: ModelConfig(id=None), r"model\.id .* or from model\.path .* neither is given"),
        (lambda: ModelConfig(path="/models/mine"), r"model\.id .* or from model\.path .* both is given"),
        (lambda: ModelConfig(name="a/b"), r"model\.name='a/b'"),
        (lambda: DataConfig(name=".."), r"data\.name='\.\.'"),
        (lambda: TemplateConfig(demo="Q: {exA}\n"), r"data\.template\.demo=.* must contain \{exA\} and \{exB\}"),
        (lambda: TemplateConfig(query="Q:"), r"data\.template\.query='Q:' must contain \{exA\}"),
        (lambda: TemplateConfig(target=" x"), r"data\.template\.target=' x' must contain \{exB\}"),
        (lambda: TemplateConfig(target="{exB}"), r"data\.template\.target='\{exB\}' must start with a space"),
        (lambda: DataConfig(n_trials_per_q=0), r"data\.n_trials_per_q=0 must be 1 or more"),
        (lambda: DataConfig(n_demos=0), r"data\.n_demos=0 must be 1 or more"),
        (lambda: DataConfig(n_eval_trials_per_q=-1), r"data\.n_eval_trials_per_q=-1 must be 0 or more"),
        (lambda: DataConfig(n_mean_trials=0), r"data\.n_mean_trials=0 must be 1 or more"),
        (lambda: DataConfig(n_eval_trials_per_q=0), r"data\.split=held_out needs data\.n_eval_trials_per_q"),
        (lambda: DataConfig(n_mean_trials=13), r"data\.n_mean_trials=13 is more than data\.n_trials_per_q=12"),
        (lambda: DataConfig(qids=[]), r"data\.qids is empty"),
        (lambda: DataConfig(qids=["a", "b", "a"]), r"data\.qids names a twice"),
        (lambda: ScoreConfig(k=0), r"score\.k=0 must be 1 or more"),
        (lambda: ScoreConfig(n_trials=0), r"score\.n_trials=0 must be 1 or more"),
        (lambda: ScoreConfig(aie_qids=[]), r"score\.aie_qids is empty"),
        (lambda: ScoreConfig(aie_qids=["a", "a"]), r"score\.aie_qids names a twice"),
        (lambda: ScoreConfig(heads=[1, 1]), r"score\.heads=\[1, 1\] names a number twice"),
        (lambda: InjectionConfig(n_eval=0), r"injection\.n_eval=0 must be 1 or more"),
        (lambda: InjectionConfig(fv=c.FvChoice.qid), r"injection\.fv=qid needs injection\.fv_source_qid"),
        (lambda: InjectionConfig(fv=c.FvChoice.file), r"injection\.fv=file and injection\.fv_path=.* go together"),
        (lambda: InjectionConfig(fv_path="a.pt"), r"injection\.fv=file and injection\.fv_path=.* go together"),
        (lambda: InjectionConfig(fv_source_qid="a"), r"injection\.fv_source_qid=a says nothing about .*fv=global"),
        (
            lambda: InjectionConfig(fv=c.FvChoice.all_qids, fv_source_qid="a"),
            r"injection\.fv_source_qid=a says nothing about injection\.fv=all_qids",
        ),
        (
            lambda: EvalScopeConfig(mode=c.ScopeMode.qid_list),
            r"eval_scope=qid_list and eval_scope\.qids=\[a,b\] go together.*auto, in_domain, all_qids, qid_list",
        ),
        (lambda: EvalScopeConfig(qids=["a"]), r"go together; given: eval_scope=auto, eval_scope\.qids=\['a'\]"),
        (lambda: EvalScopeConfig(mode=c.ScopeMode.qid_list, qids=[]), r"eval_scope\.qids is empty"),
        (lambda: c.ComputeConfig(threads=0), r"compute\.threads=0 must be 1 or more"),
        (lambda: c.ComputeConfig(max_rows=1), r"compute\.max_rows=1 must be 2 or more"),
        (
            lambda: Config(compute=c.ComputeConfig(device="cuda")),
            r"compute\.device=cuda .* not canonical.*compute\.strict=false",
        ),
        (
            lambda: Config(compute=c.ComputeConfig(dtype=c.Dtype.bf16)),
            r"compute\.dtype=bf16 .*is not canonical.*compute\.strict=false",
        ),
        (lambda: Config(seed=-1), r"seed=-1 must be 0 or more"),
        (lambda: Config(score=ScoreConfig(n_trials=13)), r"score\.n_trials=13 is more than data\.n_trials_per_q=12"),
    ],
)
def test_a_contradiction_is_refused_with_the_settings_to_change(make: Callable[[], object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ModelConfig(id=None, path="/models/mine"),
        lambda: DataConfig(n_eval_trials_per_q=0, split=c.Split.shared),
        lambda: DataConfig(n_mean_trials=12),
        lambda: DataConfig(n_mean_trials=13, fixed_trials_path="a.json"),
        lambda: InjectionConfig(fv=c.FvChoice.qid, fv_source_qid="a"),
        lambda: InjectionConfig(fv=c.FvChoice.file, fv_path="a.pt", fv_source_qid="a"),
        lambda: EvalScopeConfig(mode=c.ScopeMode.qid_list, qids=["a"]),
        lambda: c.ComputeConfig(device="cuda", dtype=c.Dtype.bf16, strict=False),
        lambda: Config(score=ScoreConfig(n_trials=12)),
        lambda: Config(score=ScoreConfig(n_trials=13), data=DataConfig(fixed_trials_path="a.json")),
        lambda: Config(seed=0, tag="k20", run_id="2024-01-01_a.b=c+d"),
    ],
)
def test_a_sound_combination_is_accepted(make: Callable[[], object]) -> None:
    assert make() == make()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "/a", ".hidden", "-x", "a b", "a\n", "é", "x" * 121]
)
@pytest.mark.parametrize("key", ["run_id", "tag"])
def test_a_name_that_could_leave_its_folder_is_refused(key: str, name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}="):
        Config(**{key: name})  # type: ignore[arg-type]


@given(st.text(max_size=8))
def test_an_accepted_name_is_one_visible_folder(name: str) -> None:
    try:
        Config(run_id=name, tag=name)
    except ConfigError:
        return
    assert Path("base", name).resolve().parent == Path("base").resolve()
    assert not name.startswith(".")


@pytest.mark.parametrize("tag", [*c.RESERVED_TAGS, "cie_scores.csv", "fv_qid.pt", "x.json"])
def test_a_tag_cannot_be_one_of_the_runs_own_files(tag: str) -> None:
    with pytest.raises(ConfigError, match=f"tag={tag} would collide"):
        Config(tag=tag)


# Layers and alphas


@pytest.mark.parametrize(
    ("text", "found"),
    [("all", "all"), ("0", [0]), ("[5]", [5]), ("[16,8,12]", [8, 12, 16]), ('"all"', "all")],
)
def test_layers_are_all_one_or_a_list(make_config: MakeConfig, text: str, found: object) -> None:
    config = make_config(f"injection.layer={text}", f"score.layers={text}", f"score.heads={text}")
    assert (config.injection.layer, config.score.layers, config.score.heads) == (found, found, found)


@pytest.mark.parametrize("value", [-1, [0, -1], True, [True], 1.0, [1.5], "3", ["all"], "some", [], None, [None], {}])
def test_anything_else_is_no_layer(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^injection\.layer=.* must be all, a number from 0, or a list"):
        InjectionConfig(layer=value)
    with pytest.raises(ConfigError, match=r"^score\.layers=.* must be all, a number from 0, or a list"):
        ScoreConfig(layers=value)


def test_a_layer_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"injection\.layer=\[3, 1, 3\] names a number twice"):
        InjectionConfig(layer=[3, 1, 3])


@pytest.mark.parametrize(
    ("text", "found"), [("1", [1.0]), ("0.5", [0.5]), ("[2,0.5,-1]", [-1.0, 0.5, 2.0]), ("0", [0.0]), ("1e-3", [0.001])]
)
def test_alphas_are_one_number_or_a_list(make_config: MakeConfig, text: str, found: list[float]) -> None:
    alphas = make_config(f"injection.alpha={text}").injection.alpha
    assert alphas == found
    assert all(type(alpha) is float for alpha in alphas)


@pytest.mark.parametrize("value", [True, "1.0", "all", [], None, [1.0, None], float("nan"), [float("inf")], ["2"]])
def test_anything_else_is_no_alpha(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"injection\.alpha=.* must be a finite number or a list"):
        InjectionConfig(alpha=value)


def test_an_alpha_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"injection\.alpha="):
        InjectionConfig(alpha=10**400)


def test_a_seed_too_large_for_torch_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed="):
        Config(seed=2**64)


@pytest.mark.parametrize("value", [[1.0, 2.0, 1.0], [1, 1.0], [0.0, -0.0]])
def test_an_alpha_named_twice_is_refused(value: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"injection\.alpha=.* names a number twice"):
        InjectionConfig(alpha=value)


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
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
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
