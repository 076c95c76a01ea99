"""docs/methods.md names settings, files and columns that there are, and defines every metric."""

import ast
import json
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import reduce
from pathlib import Path
from typing import Any, get_args

import pytest
from commands import ROOT
from conftest import MakeConfig
from tiny_runs import TinyRun

import fv
from entrypoints.command_line import plugged_in
from fv.config import Config
from fv.config.explanations import explanations
from fv.config.injection import KINDS
from fv.data.trial import WrongOutputs
from fv.evaluation.conditions import condition_providers
from fv.evaluation.tables import ANSWER_NEW, CHANGES, CONTRASTED, LEVELS
from fv.evaluation.trial_rows import METRICS
from fv.interventions.engine import TargetScores
from fv.interventions.positions import Positions
from fv.runs.paths import RunPaths
from fv.runs.run import Run, open_run
from fv.statistics.grouped import SPREAD
from fv.steps.stepd import run_stepd
from fv.vectors.maker import Report
from fv.vectors.makers import maker_classes

TEXT = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`([^`\n]+)`", TEXT)))
SETTINGS = [name for name in NAMES if name.partition("=")[0].split(".")[0] in {own.name for own in fields(Config)}]
PATHS = [name for name in NAMES if re.fullmatch(r"(fv|tests)/\S+", name)]
FILES = [name for name in NAMES if re.fullmatch(r"\w+\.(csv|json|jsonl|npz|pt)", name)]
DEFAULTS = re.findall(r"\| ([\d.]+) \(`(\w+\.\w+)`\) \|", TEXT)
LINKS = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
WORDS = [name for name in NAMES if re.fullmatch(r"[a-z_0-9]{2,}", name)]


@pytest.fixture
def screened_run(tiny_run: TinyRun) -> Run:
    """StepD of a run whose heads were screened."""
    config = tiny_run({"score.screen": "gradient", "score.verify_random": 2})
    run_stepd(config)
    return open_run(RunPaths.of(config).root)


def texts_in(module: Path) -> Iterator[str]:
    """The texts in a module's code."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def words_of(value: Any) -> Iterator[str]:
    """The keys of a JSON value, and its texts."""
    if isinstance(value, dict):
        yield from value
        value = [*value.values()]
    if isinstance(value, list):
        for each in value:
            yield from words_of(each)
    elif isinstance(value, str):
        yield value


def words_of_run(run: Run) -> set[str]:
    """The columns of a run's tables and the keys of its records, and the texts in both."""
    tables = [run.table(name) for name in run.tables]
    columns = {str(column) for table in tables for column in table}
    texts = {str(text) for table in tables for text in table.select_dtypes(["object", "string"]).to_numpy().ravel()}
    records = [json.loads(path.read_text(encoding="utf-8")) for path in (run.paths.root / "artifacts").rglob("*.json")]
    return columns | texts | {*words_of(records)}


def words_of_settings() -> set[str]:
    """The parts of settings' keys, the values that one chooses from, and the conditions."""
    told = explanations(plugged_in=plugged_in())
    keys = {part for setting in told for part in setting.key.split(".")}
    makers = {*maker_classes()} | {own.name for maker in maker_classes().values() for own in fields(maker)}
    return keys | {choice for setting in told for choice in setting.choices} | {*condition_providers()} | makers


def words_of_library() -> set[str]:
    """The names in public classes and in what the page mentions, and values that no run of the tests has."""
    paths = [name.split(".") for name in NAMES if re.fullmatch(r"fv(\.\w+)+", name)]
    mentioned = [pkgutil.resolve_name(".".join(path[:n])) for path in paths for n in range(2, len(path) + 1)]
    public = [getattr(fv, name) for name in fv.__all__]
    names = {name for each in (*mentioned, *public, TargetScores) for name in dir(each)}
    columns = {
        text for name in ("baselines", "baseline_tables") for text in texts_in(ROOT / f"fv/evaluation/{name}.py")
    }
    return names | columns | {*get_args(WrongOutputs), *Positions, *KINDS, ANSWER_NEW, *Report._fields}


def test_there_are_names_of_every_kind() -> None:
    assert min(map(len, (SETTINGS, FILES, WORDS))) > 15 and min(map(len, (PATHS, DEFAULTS, LINKS))) > 2


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_there_and_may_have_the_value(name: str, make_config: MakeConfig) -> None:
    key, _, value = name.replace("<provider>", "random_vector").partition("=")
    # An analysis that no step runs by itself has settings where it is named.
    named = [f"analysis=['{key.split('.')[1]}']"] if key.startswith("analysis.") else []
    settings = make_config(*named, *([f"{key}={value}"] if value else [])).resolved()
    assert reduce(lambda group, part: group.get(part, name), key.split("."), settings) != name


@pytest.mark.parametrize(("value", "key"), DEFAULTS)
def test_a_default_beside_that_of_the_public_code_is_the_default(value: str, key: str) -> None:
    group, name = key.split(".")
    found = Config().resolved()[group][name]
    assert [float(value)] == (found if isinstance(found, list) else [found])


def test_every_link_within_the_page_leads_to_a_heading() -> None:
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    assert {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings} >= LINKS


@pytest.mark.parametrize("name", PATHS)
def test_every_path_of_the_repository_is_there(name: str) -> None:
    assert (ROOT / name).is_file()


def test_every_file_is_one_that_a_run_has_or_an_analysis_makes(hostile_run: Run, screened_run: Run) -> None:
    there = {path.name for run in (hostile_run, screened_run) for path in run.paths.root.rglob("*.*")}
    made = {f"{text}.csv" for path in (ROOT / "fv" / "analyses").glob("*.py") for text in texts_in(path)}
    assert sorted({*FILES} - there - made) == []


def test_every_other_word_is_of_a_run_a_setting_or_the_library(hostile_run: Run, screened_run: Run) -> None:
    of_runs = words_of_run(hostile_run) | words_of_run(screened_run)
    assert sorted({*WORDS} - of_runs - words_of_settings() - words_of_library()) == []


def test_every_metric_is_defined() -> None:
    changes = {name for name in CHANGES if not name.startswith("delta_")}
    assert {"delta_…", *LEVELS, *changes, *CONTRASTED, *METRICS, *SPREAD} <= {*NAMES}
