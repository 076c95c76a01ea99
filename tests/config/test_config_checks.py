"""Checks of settings: what is impossible is refused with the settings to change, what is sound is accepted."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeConfig
from hypothesis import given
from hypothesis import strategies as st

from fv import config as c
from fv.cluster.slurm import Slurm
from fv.config import (
    ColumnsConfig,
    Config,
    DataConfig,
    EvalScopeConfig,
    Group,
    InjectionConfig,
    ModelConfig,
    ScoreConfig,
    TemplateConfig,
)
from fv.config.group import named_later
from fv.errors import ConfigError

# Checks of one group, made by hand and of a run

QID_LIST, SHARED = c.ScopeMode.qid_list, c.Split.shared
REFUSED: list[tuple[str, type[Group], dict[str, Any], str]] = [
    ("model", ModelConfig, {}, "from <id> .* or from <path> .* neither is given"),
    ("model", ModelConfig, {"id": "gpt2", "path": "/mine"}, "from <id> .* or from <path> .* both is given"),
    ("model", ModelConfig, {"name": "a/b"}, "^<name>='a/b' must name a folder"),
    (
        "model",
        ModelConfig,
        {"path": "x", "max_memory": {"cpu": 1}},
        "^<max_memory> is what <device_map>=auto",
    ),
    (
        "model",
        ModelConfig,
        {"path": "x", "offload_folder": "y"},
        "^<offload_folder> is .*; give a <device_map>",
    ),
    ("data", DataConfig, {"name": ".."}, r"^<name>='\.\.' must name a folder"),
    ("data", DataConfig, {"n_eval_trials_per_q": 0}, "^<split>=held_out needs <n_eval_trials_per_q> .* <split>=shared"),
    ("data", DataConfig, {"n_mean_trials": 37}, "^<n_mean_trials>=37 is more than <n_trials_per_q>=36"),
    (
        *("data", DataConfig, {"split": SHARED, "hold_out": c.HoldOut.outputs}),
        "^<hold_out>=outputs has no effect with <split>=shared",
    ),
    ("data", DataConfig, {"qids": []}, "^<qids> is empty"),
    ("data", DataConfig, {"qids": ["a", "b", "a"]}, "^<qids> names a twice"),
    ("data", DataConfig, {"form": c.Form.lre}, "^<form>=lre needs <path>="),
    ("data", DataConfig, {"path": "a", "relation_csv_path": "b"}, "from <path>=a or from <relation_csv_path>=b"),
    ("data.columns", ColumnsConfig, {"exA": "x", "exB": "x"}, r"^(data\.)?columns must name three .*, not q_id, x, x"),
    ("data.template", TemplateConfig, {"demo": "Q: {exA}\n"}, r"^<demo>=.* must contain \{exA\} and \{exB\}"),
    ("data.template", TemplateConfig, {"query": "Q:"}, r"^<query>='Q:' must contain \{exA\}"),
    ("data.template", TemplateConfig, {"target": " x"}, r"^<target>=' x' must contain \{exB\}"),
    ("data.template", TemplateConfig, {"target": "{exB}"}, r"^<target>='\{exB\}' must start with a space"),
    ("score", ScoreConfig, {"aie_qids": []}, "^<aie_qids> is empty"),
    ("score", ScoreConfig, {"aie_qids": ["a", "a"]}, "^<aie_qids> names a twice"),
    ("score", ScoreConfig, {"heads": [1, 1]}, r"^<heads>=\[1, 1\] names a number twice"),
    ("injection", InjectionConfig, {"fv": "qid"}, "^<fv>=qid needs <fv_source_qid>"),
    ("injection", InjectionConfig, {"fv": "file"}, "^<fv>=file and <fv_path>=.* go together"),
    ("injection", InjectionConfig, {"fv_path": "a.pt"}, "^<fv>=file and <fv_path>=.* go together"),
    ("injection", InjectionConfig, {"fv": "file", "fv_path": "a.pt", "k": 1}, "^<k> makes .* and <fv>=file takes one"),
    ("injection", InjectionConfig, {"fv": "a-b"}, "^<fv>='a-b' must be one of global, qid, all_qids, aie_qid, file"),
    (
        "injection",
        InjectionConfig,
        {"fv": "mean_difference", "k": 1},
        "^<k> makes .* and <fv>=mean_difference is a maker",
    ),
    (
        "injection",
        InjectionConfig,
        {"makers": {"layer_mean": {}}},
        "^<makers>.layer_mean has no effect with <fv>=all_qids",
    ),
    ("injection", InjectionConfig, {"fv": ["global", "global"]}, "^<fv>=.* list of different ones"),
    ("injection", InjectionConfig, {"fv": ["qid", "all_qids"], "fv_source_qid": "a"}, "^<fv>=.* names a .* twice"),
    (
        *("injection", InjectionConfig, {"fv": "global", "fv_source_qid": "a"}),
        "^<fv_source_qid>=a has no effect with <fv>=global; use <fv>=qid",
    ),
    (
        *("eval_scope", EvalScopeConfig, {"mode": QID_LIST}),
        r"^(eval_scope|mode)=qid_list and <qids>=\[a,b\] go together.*auto, in_domain, all_qids, qid_list",
    ),
    ("eval_scope", EvalScopeConfig, {"qids": ["a"]}, r"given: (eval_scope|mode)=auto, <qids>=\['a'\]"),
    ("eval_scope", EvalScopeConfig, {"mode": QID_LIST, "qids": []}, "^<qids> is empty"),
    ("compute", c.ComputeConfig, {"max_rows": 1}, "^<max_rows>=1 must be a whole number of 2 or more, or auto"),
    ("compute", c.ComputeConfig, {"max_rows": "all"}, "^<max_rows>='all' must be .*, or auto"),
    ("compute", c.ComputeConfig, {"max_rows": True}, "^<max_rows>=True must be a whole number"),
    ("plan", c.PlanConfig, {"gb_per_s": 1.0}, "^<gb_per_s> belongs to a processor that <tflops> describes"),
    ("plan", c.PlanConfig, {"workers": []}, r"^<workers>=\[\] must name at least one number of workers"),
    ("report", c.ReportConfig, {"formats": ["gif"]}, "^<formats>='gif' must be one of svg, pdf, png"),
    ("report", c.ReportConfig, {"formats": ["svg", "svg"]}, "^<formats>=.* names one twice"),
    ("cluster", Slurm, {"options": "x"}, "^<options>='x' must be options of sbatch"),
]


@pytest.mark.parametrize(("key", "group", "settings", "told"), REFUSED)
def test_a_contradiction_is_refused_by_the_names_under_which_settings_were_given(
    key: str, group: type[Group], settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=re.sub(r"<(\w+)>", r"\\b\1", told)) as by_hand:
        group(**settings)
    assert f"{key}." not in str(by_hand.value)
    with named_later():
        of_run = group(**settings)
    with pytest.raises(ConfigError, match=re.sub(r"<(\w+)>", rf"\\b{re.escape(key)}\\.\1", told)):
        of_run.become(key)


# Checks across groups


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: Config(compute=c.ComputeConfig(device="cuda")),
            r"compute\.device=cuda .* not canonical.*compute\.strict=false",
        ),
        (
            lambda: Config(compute=c.ComputeConfig(dtype=c.Dtype.bf16)),
            r"compute\.dtype=bf16 .*is not canonical.*compute\.strict=false",
        ),
        (lambda: Config(score=ScoreConfig(n_trials=37)), r"score\.n_trials=37 is more than data\.n_trials_per_q=36"),
    ],
)
def test_groups_that_contradict_each_other_are_refused_by_their_keys(make: Callable[[], object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make()


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (ModelConfig, {"path": "/models/mine"}),
        (DataConfig, {"n_eval_trials_per_q": 0, "split": c.Split.shared}),
        (DataConfig, {"n_mean_trials": 36}),
        (DataConfig, {"n_mean_trials": 37, "fixed_trials_path": "a.json"}),
        (InjectionConfig, {"fv": "qid", "fv_source_qid": "a"}),
        (InjectionConfig, {"fv": ["global", "all_qids", "aie_qid"]}),
        (InjectionConfig, {"fv": "aie_qid", "fv_source_qid": "a"}),
        (InjectionConfig, {"fv": "file", "fv_path": "a.pt", "fv_source_qid": "a"}),
        (EvalScopeConfig, {"mode": c.ScopeMode.qid_list, "qids": ["a"]}),
        (c.ComputeConfig, {"device": "cuda", "dtype": c.Dtype.bf16, "strict": False}),
        (Config, {"score": ScoreConfig(n_trials=36)}),
        (Config, {"score": ScoreConfig(n_trials=37), "data": DataConfig(fixed_trials_path="a.json")}),
        (Config, {"seed": 0, "tag": "k20", "run_id": "2024-01-01_a.b=c+d"}),
    ],
)
def test_a_sound_combination_is_taken_as_it_is_given(kind: type, given: dict[str, Any]) -> None:
    made = kind(**given)
    assert {name: getattr(made, name) for name in given} == given


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "/a", ".hidden", "-x", "a b", "a\n", "é", "x" * 121]
)
@pytest.mark.parametrize("key", ["run_id", "tag"])
def test_a_name_that_could_leave_its_folder_is_refused(key: str, name: str) -> None:
    given: dict[str, Any] = {key: name}
    with pytest.raises(ConfigError, match=f"^{key}="):
        Config(**given)


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


# Screened heads

SCREENED: dict[str, Any] = {"screen": c.Screen.gradient, "k": 3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**SCREENED, "verify": 2}, r"verify=2 must be k=3 or more"),
        ({**SCREENED, "verify": 8, "verify_max": 7}, r"verify_max=7 must be 8 or more, which is verify"),
        ({**SCREENED, "verify_max": 11}, r"verify_max=11 must be 12 or more, which is 4 times k"),
    ],
)
def test_a_screen_that_could_not_rank_k_heads_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}\\.$"):
        ScoreConfig(**settings)


def test_vectors_of_more_heads_than_are_verified_are_refused() -> None:
    score, injection = ScoreConfig(**SCREENED), InjectionConfig(k=[1, 13])
    with pytest.raises(ConfigError, match=r"^injection\.k=\[1, 13\]: score\.screen=gradient .* score\.verify=13"):
        Config(score=score, injection=injection)
    assert Config(score=ScoreConfig(**SCREENED, verify=13), injection=injection).score.n_verify == 13
    assert Config(score=ScoreConfig(k=3), injection=injection).score.screen is c.Screen.none


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
    with pytest.raises(ConfigError, match=r"^layer=.* must be all, a number from 0, or a list"):
        InjectionConfig(layer=value)
    with pytest.raises(ConfigError, match=r"^layers=.* must be all, a number from 0, or a list"):
        ScoreConfig(layers=value)


def test_a_layer_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^layer=\[3, 1, 3\] names a number twice"):
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
    with pytest.raises(ConfigError, match=r"^alpha=.* must be a finite number or a list"):
        InjectionConfig(alpha=value)


def test_an_alpha_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^alpha="):
        InjectionConfig(alpha=10**400)


@pytest.mark.parametrize("value", [[1.0, 2.0, 1.0], [1, 1.0], [0.0, -0.0]])
def test_an_alpha_named_twice_is_refused(value: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"^alpha=.* names a number twice"):
        InjectionConfig(alpha=value)
