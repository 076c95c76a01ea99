"""Words that name no setting and no choice: refused before anything is loaded, with what is near."""

import ast

import pytest
from commands import ROOT
from conftest import MakeConfig
from hypothesis import given
from hypothesis import strategies as st

from entrypoints.command_line import GROUPS_OF, is_answered, plugged_in
from entrypoints.words import refuse_unknown_words
from fv.config.explanations import explanations
from fv.errors import ConfigError
from fv.runs import commands
from fv.steps import listing

KEYS = [setting.key for setting in explanations(plugged_in=plugged_in())]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["data.n_demo=3"], "no setting called 'data.n_demo'. Near it: data.n_demos"),
        (["injection.layr=[3]"], "no setting called 'injection.layr'. Near it: injection.layer"),
        (["seeed=3"], "Near it: seed."),
        (["analysis.cots.n_texts=2"], "Near it: analysis.cost.n_texts"),
        (["evaluation.conditions.random_vector.drws=3"], "Near it: evaluation.conditions.random_vector.draws"),
        (["model=gpt22"], "no choice of model called 'gpt22'. Near it: gpt2"),
        (["-m", "model=gpt2,smolm"], "no choice of model called 'smolm'. Near it: smollm2."),
        (["data/template=aro"], "no choice of data/template called 'aro'. Near it: arrow."),
        (["experiment=dmo"], "Near it: demo."),
        (["cluster=slrum"], "Near it: slurm."),
        (["analysis=[cost,transfers]"], "no analysis called 'transfers'. Near it: transfer."),
        (["+_target_=os.system"], "no setting called '_target_'. There are model, data, score, injection, eval_scope"),
        (["+data._target_=os.system"], "no setting called 'data._target_'"),
        (["++foo=1"], "no setting called 'foo'. There are model, data,"),
        (["+data.qids.foo=1"], "no setting called 'data.qids.foo'"),
    ],
)
def test_a_word_that_names_nothing_is_refused_with_what_is_near(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        refuse_unknown_words(words)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "words",
    [
        ["experiment=demo", "data=csv", "data.path=x.csv", "data/template=qa", "model=local", "cluster=none"],
        ["analysis=[]", "analysis=[cost,'null']", "analysis=default", "analysis.null.draws=3", "~data", "report=none"],
        ["model.device_map.lm_head=0", "model.max_memory={0: 1GiB}", "data.template={demo: 'a'}", "--cfg", "job", "-m"],
        ["cluster=local", "cluster.workers=3", "hydra/launcher=processes", "hydra.launcher.n_jobs=2", "-m", "seed=1,2"],
        ["model=glob(gpt2*)", "score.k=range(5,8)", "injection.alpha=interval(0,1)", "seed=choice(1,2)"],
        ["--config-dir=mine", "model=mine", "data/template=own"],
    ],
)
def test_words_that_name_something_pass(words: list[str]) -> None:
    refuse_unknown_words(words)


@given(st.sampled_from(KEYS), st.integers(0, 200), st.characters(categories=["Ll"]))
def test_every_setting_passes_and_a_typo_of_one_does_not(key: str, place: int, letter: str) -> None:
    refuse_unknown_words([f"{key}=null"])
    group, dot, name = key.rpartition(".")
    typo = f"{group}{dot}{name[: place % (len(name) + 1)]}{letter}{name[place % (len(name) + 1) :]}"
    if typo.isascii() and typo not in KEYS:
        with pytest.raises(ConfigError, match="There is no setting called"):
            refuse_unknown_words([f"+{typo}=1"])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("+_target_=os.system", "There is no setting called '_target_'"),
        ("+data._target_=os.system", "There is no setting called 'data._target_'"),
        ("+analysis.cost.n_text=1", "There is no setting called 'analysis.cost.n_text'. Near it: analysis.cost.n_"),
    ],
)  # fmt: skip
def test_what_is_added_to_the_settings_in_any_other_way_is_refused_too(
    make_config: MakeConfig, override: str, told: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        make_config(override)
    assert told in str(refused.value)


def test_an_installed_command_goes_by_its_name_wherever_one_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "IN_CLONE", False)
    monkeypatch.setenv("COLUMNS", "200")
    for name in sorted({*GROUPS_OF, "pipeline", "stepd", "stepe", "step6"}):
        module = __import__(f"entrypoints.{name}", fromlist=["__doc__"])
        assert is_answered(["--help"], name, module.__doc__)
        said = capsys.readouterr().out
        assert said.startswith(f"fv-{name} [key=value …]") and "entrypoints" not in said
    listing.list_models()
    listing.list_analyses()
    assert "entrypoints" not in capsys.readouterr().out


def test_no_other_text_of_the_code_names_a_module_as_a_command() -> None:
    """What users are told goes through `fv.runs.commands`; docstrings of modules that are no commands may."""
    for path in [*(ROOT / "fv").rglob("*.py"), *(ROOT / "entrypoints").rglob("*.py")]:
        if path.name == "commands.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        assert not [text for text in texts if "python -m entrypoints" in text], path
