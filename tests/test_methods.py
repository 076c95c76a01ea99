"""docs/methods.md names settings, files and columns that there are, and defines every metric."""

import ast
import re
from dataclasses import fields
from functools import reduce

import pytest
from commands import ROOT
from conftest import MakeConfig

from fv.config import Config
from fv.evaluation.tables import CHANGES, CONTRASTED, LEVELS
from fv.evaluation.trial_rows import METRICS
from fv.statistics.grouped import SPREAD

TEXT = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`([^`\n]+)`", TEXT)))
SETTINGS = [name for name in NAMES if name.partition("=")[0].split(".")[0] in {own.name for own in fields(Config)}]
PATHS = [name for name in NAMES if re.fullmatch(r"(fv|tests)/\S+", name)]
FILES = [name for name in NAMES if re.fullmatch(r"\w+\.(csv|json|jsonl|npz|pt)", name)]
DEFAULTS = re.findall(r"\| ([\d.]+) \(`(\w+\.\w+)`\) \|", TEXT)
LINKS = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
WORDS = [name for name in NAMES if re.fullmatch(r"[a-z_0-9]{2,}", name)]


@pytest.fixture(scope="module")
def said_in_code() -> set[str]:
    """Every name, and every text, that stands in the library's code."""
    paths = [*(ROOT / "fv").rglob("*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    texts = {text for tree in trees for node in ast.walk(tree) for text in vars(node).values() if isinstance(text, str)}
    return texts | {path.stem for path in paths}  # a provider of conditions goes by the name of its module


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


def test_every_file_of_a_run_is_one_that_the_code_names(said_in_code: set[str]) -> None:
    # Tables are named without their ending.
    assert not [name for name in FILES if not {name, name.split(".")[0]} & said_in_code]


def test_every_column_condition_and_value_is_a_word_of_the_code(said_in_code: set[str]) -> None:
    assert not [name for name in WORDS if name not in said_in_code]


def test_every_metric_is_defined() -> None:
    changes = {name for name in CHANGES if not name.startswith("delta_")}
    assert {"delta_…", *LEVELS, *changes, *CONTRASTED, *METRICS, *SPREAD} <= {*NAMES}
