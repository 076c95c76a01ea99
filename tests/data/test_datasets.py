"""The shipped data are what the data card and the README say."""

import re
from pathlib import Path

import pytest
from conftest import DEFAULT_CSV, ROOT, MakeConfig

from fv.data.relations import read_configured

CARD = ROOT / "datasets" / "relation" / "README.md"


def test_default_relations_are_many_large_and_clean(make_config: MakeConfig) -> None:
    file = read_configured(make_config("data.strict=true").data)
    assert len(file.relations) >= 8
    for relation in file.relations:
        assert len(relation.pairs) >= 50, relation.q_id
        assert all(a.strip() == a and b.strip() == b and a != b for a, b in relation.pairs), relation.q_id


def test_the_data_card_counts_every_relation(make_config: MakeConfig) -> None:
    card = CARD.read_text(encoding="utf-8")
    for relation in read_configured(make_config().data).relations:
        assert re.search(rf"\|\s*`?{relation.q_id}`?\s*\|.*\|\s*{len(relation.pairs)}\s*\|", card), relation.q_id


def test_the_example_file_is_a_part_of_the_default_one(make_config: MakeConfig) -> None:
    example = ROOT / "datasets" / "relation" / "relationA_ex.csv"
    rows = set(DEFAULT_CSV.read_text(encoding="utf-8").splitlines())
    assert set(example.read_text(encoding="utf-8").splitlines()) <= rows
    assert len(read_configured(make_config(f"data.relation_csv_path={example}").data).relations) == 3


@pytest.mark.parametrize("path", ["README.md", "docs/engine.md", "CONTRIBUTING.md"])
def test_links_and_files_named_in_the_docs_exist(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / path).parent.joinpath(target).exists(), target
    for target in re.findall(r"`((?:fv|scripts|docs|tests|benchmarks)/[\w./]+\.\w+)`", text):
        assert Path(ROOT / target).exists(), target


def test_no_init_file_shadows_the_datasets_package() -> None:
    assert not list((ROOT / "datasets").rglob("__init__.py"))
