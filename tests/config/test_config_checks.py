"""Checks of settings: what is impossible is refused with the settings to change, what is sound is accepted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeConfig
from hypothesis import given
from hypothesis import strategies as st

from fv import config as c
from fv.config import Config, DataConfig, EvalScopeConfig, InjectionConfig, ModelConfig, ScoreConfig, TemplateConfig
from fv.errors import ConfigError

# Checks of one group and across groups


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: ModelConfig(), r"model\.id .* or from model\.path .* neither is given"),
        (lambda: ModelConfig(id="gpt2", path="/models/mine"), r"model\.id .* or from model\.path .* both is given"),
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
        (lambda: DataConfig(n_mean_trials=37), r"data\.n_mean_trials=37 is more than data\.n_trials_per_q=36"),
        (
            lambda: DataConfig(split=c.Split.shared, hold_out=c.HoldOut.outputs),
            r"data\.hold_out=outputs says nothing about data\.split=shared",
        ),
        (lambda: DataConfig(qids=[]), r"data\.qids is empty"),
        (lambda: DataConfig(qids=["a", "b", "a"]), r"data\.qids names a twice"),
        (lambda: ScoreConfig(k=0), r"score\.k=0 must be 1 or more"),
        (lambda: ScoreConfig(n_trials=0), r"score\.n_trials=0 must be 1 or more"),
        (lambda: ScoreConfig(aie_qids=[]), r"score\.aie_qids is empty"),
        (lambda: ScoreConfig(aie_qids=["a", "a"]), r"score\.aie_qids names a twice"),
        (lambda: ScoreConfig(heads=[1, 1]), r"score\.heads=\[1, 1\] names a number twice"),
        (lambda: InjectionConfig(n_eval=0), r"injection\.n_eval=0 must be 1 or more"),
        (lambda: InjectionConfig(fv="qid"), r"injection\.fv=qid needs injection\.fv_source_qid"),
        (lambda: InjectionConfig(fv="file"), r"injection\.fv=file and injection\.fv_path=.* go together"),
        (
            lambda: InjectionConfig(fv="best"),
            r"injection\.fv='best' must be one of global, qid, all_qids, aie_qid, file",
        ),
        (lambda: InjectionConfig(fv=["global", "global"]), r"injection\.fv=.* list of different ones"),
        (lambda: InjectionConfig(fv=["qid", "all_qids"], fv_source_qid="a"), r"names a relation's vector twice"),
        (lambda: InjectionConfig(fv_path="a.pt"), r"injection\.fv=file and injection\.fv_path=.* go together"),
        (lambda: InjectionConfig("global", "a"), r"injection\.fv_source_qid=a says nothing about .*fv=global"),
        (
            lambda: InjectionConfig(fv="all_qids", fv_source_qid="a"),
            r"injection\.fv_source_qid=a says nothing about injection\.fv=all_qids",
        ),
        (
            lambda: EvalScopeConfig(mode=c.ScopeMode.qid_list),
            r"eval_scope=qid_list and eval_scope\.qids=\[a,b\] go together.*auto, in_domain, all_qids, qid_list",
        ),
        (lambda: EvalScopeConfig(qids=["a"]), r"go together; given: eval_scope=auto, eval_scope\.qids=\['a'\]"),
        (lambda: EvalScopeConfig(mode=c.ScopeMode.qid_list, qids=[]), r"eval_scope\.qids is empty"),
        (lambda: c.ComputeConfig(threads=0), r"compute\.threads=0 must be 1 or more"),
        (lambda: c.ComputeConfig(max_rows=1), r"compute\.max_rows=1 must be a whole number of 2 or more, or auto"),
        (lambda: c.ComputeConfig(max_rows="all"), r"compute\.max_rows='all' must be .*, or auto"),
        (lambda: c.ComputeConfig(max_rows=True), r"compute\.max_rows=True must be a whole number"),
        (
            lambda: Config(compute=c.ComputeConfig(device="cuda")),
            r"compute\.device=cuda .* not canonical.*compute\.strict=false",
        ),
        (
            lambda: Config(compute=c.ComputeConfig(dtype=c.Dtype.bf16)),
            r"compute\.dtype=bf16 .*is not canonical.*compute\.strict=false",
        ),
        (lambda: Config(seed=-1), r"seed=-1 must be 0 or more"),
        (lambda: Config(score=ScoreConfig(n_trials=37)), r"score\.n_trials=37 is more than data\.n_trials_per_q=36"),
    ],
)
def test_a_contradiction_is_refused_with_the_settings_to_change(make: Callable[[], object], told: str) -> None:
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
        ({"screen_points": 0}, r"score\.screen_points=0 must be 1 or more"),
        ({"verify": 0}, r"score\.verify=0 must be 1 or more"),
        ({"verify_random": -1}, r"score\.verify_random=-1 must be 0 or more"),
        ({**SCREENED, "verify": 2}, r"score\.verify=2 must be score\.k=3 or more"),
        ({**SCREENED, "verify": 8, "verify_max": 7}, r"score\.verify_max=7 must be 8 or more, which is score\.verify"),
        ({**SCREENED, "verify_max": 11}, r"score\.verify_max=11 must be 12 or more, which is 4 times score\.k"),
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
