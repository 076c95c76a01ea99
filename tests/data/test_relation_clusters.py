"""Clusters of relations: read from their file, carried to the snapshot, and right of the relations that ship."""

import csv
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import DEFAULT_CSV, ROOT, MakeConfig
from relation_makers import numbered

from fv.config import DataConfig, Form
from fv.data.clusters import read_clusters
from fv.data.reading import as_relations, read_relations
from fv.data.relations import normalise, read_configured
from fv.data.sample_trials import sample_trials
from fv.errors import RelationError, TrialError
from fv.models.language_model import LanguageModel

SHIPPED = DEFAULT_CSV.with_name("clusters.csv")
CARD = ROOT / "datasets" / "relation" / "README.md"
PAIRS = [*numbered(20).pairs]


def written(folder: Path, clusters: str | bytes | None = None, name: str = "clusters.csv") -> Path:
    """A file of the relations a, b and c, with clusters beside it."""
    folder.mkdir(exist_ok=True)
    if clusters is not None:
        (folder / name).write_bytes(clusters.encode() if isinstance(clusters, str) else clusters)
    rows = [f"{q_id},{pair.exA},{pair.exB}" for q_id in "abc" for pair in PAIRS]
    path = folder / "relations.csv"
    path.write_text("\n".join(["q_id,exA,exB", *rows]), encoding="utf-8")
    return path


def clusters_in(path: Path, **settings: Any) -> dict[str, str | None]:
    read = read_configured(DataConfig(path=str(path), **settings))
    return {relation.q_id: relation.cluster for relation in read.relations}


# The shipped ones


def test_each_shipped_relation_is_in_the_cluster_that_its_card_says() -> None:
    found = {q_id: relation.cluster for q_id, relation in read_relations().items()}
    assert found == read_clusters(SHIPPED) and len(found) == 31 and list(read_clusters(SHIPPED)) == sorted(found)
    rows = [line.split(" | ") for line in CARD.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    header = next(row for row in rows if row[0] == "| q_id")
    place = header.index("cluster")
    assert {row[0][2:]: row[place] for row in rows if len(row) == len(header) and row is not header} == found
    assert len(set(found.values())) == int(re.findall(r"31 relations in (\d+) clusters", CARD.read_text("utf-8"))[0])


def test_shipped_relations_that_share_a_fifth_of_their_inputs_are_in_one_cluster() -> None:
    relations = read_relations()
    inputs = {q_id: {normalise(pair.exA) for pair in own.pairs} for q_id, own in relations.items()}
    for a, b in itertools.combinations(relations, 2):
        if 5 * len(inputs[a] & inputs[b]) >= min(len(inputs[a]), len(inputs[b])):
            assert relations[a].cluster == relations[b].cluster, (a, b)


def test_the_example_file_has_the_shipped_clusters() -> None:
    example = read_relations(DEFAULT_CSV.with_name("relationA_ex.csv"))
    assert {relation.cluster for relation in example.values()} <= {*read_clusters(SHIPPED).values()}


# Reading


def test_clusters_beside_the_relations_or_in_their_folder_are_read_and_are_no_relation(tmp_path: Path) -> None:
    text = 'q_id,note,cluster\r\nb,"x, y",verbs\r\na,z,verbs\r\nelsewhere,z,nouns\r\n\r\n'
    path = written(tmp_path / "own", text)
    expected = {"a": "verbs", "b": "verbs", "c": None}
    assert clusters_in(path) == clusters_in(path.parent) == expected
    assert clusters_in(path.parent, form=Form.folder) == clusters_in(path.parent, form=Form.csv) == expected
    without = read_relations(written(tmp_path / "without"))
    assert without.sha256 == read_relations(path).sha256


def test_a_foreign_file_of_that_name_in_a_subfolder_is_no_relation(tmp_path: Path) -> None:
    path = written(tmp_path / "own")
    (path.parent / "more").mkdir()
    (path.parent / "more" / "clusters.csv").write_text("k,centroid\n3,0.5\n", encoding="utf-8")
    assert clusters_in(path.parent) == {"a": None, "b": None, "c": None}


def test_relations_in_a_file_of_that_name_are_read_as_such(tmp_path: Path) -> None:
    path = written(tmp_path / "own").rename(tmp_path / "own" / "clusters.csv")
    assert clusters_in(path) == {"a": None, "b": None, "c": None}


def test_the_setting_names_another_file(tmp_path: Path, make_config: MakeConfig) -> None:
    path = written(tmp_path / "own", "not,clusters\n")
    other = tmp_path / "other.csv"
    other.write_text("cluster,q_id\nnouns,c\n", encoding="utf-8-sig")
    data = make_config(f"data.path={path}", f"data.clusters_path={other}").data
    assert {r.q_id: r.cluster for r in read_configured(data).relations} == {"a": None, "b": None, "c": "nouns"}
    missing = make_config(f"data.path={path}", "data.clusters_path=none.csv").data
    with pytest.raises(RelationError, match=r"no CSV of clusters at .*none\.csv\. Set data\.clusters_path"):
        read_configured(missing)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("q_id,group\na,verbs\n", r"line 1, must have each of the columns q_id, cluster once; .* q_id, group\."),
        ("q_id,cluster,cluster\na,b,c\n", r"line 1, must have each of the columns"),
        ("", r"its columns are: none"),
        ("q_id,cluster\na,verbs\nb,nouns\na,nouns\n", r"line 4: a is there already, on line 2"),
        ("q_id,cluster\na, \n,x\n", r"(?s)line 2: column cluster is empty.*line 3: column q_id is empty"),
        ("q_id,cluster\na\n", r"line 2: 1 cells, where the header has 2"),
        ('q_id,cluster\na,"x\n', r"the row that begins on line 2 is not CSV"),
        ("q_id,cluster\na,caf\xe9\n".encode("latin-1"), r"clusters\.csv is not UTF-8: line 2 holds byte 0xE9"),
        ("q_id,cluster\na,verbs\n".encode("utf-16"), r"clusters\.csv is not UTF-8: line 1 holds byte 0xFF"),
    ],
)
def test_a_flawed_file_is_refused_with_its_lines_and_the_way_out(
    tmp_path: Path, content: str | bytes, told: str
) -> None:
    path = written(tmp_path / "own", content)
    for source in (path, path.parent):
        with pytest.raises(RelationError, match=told) as caught:
            clusters_in(source)
        assert str(path.with_name("clusters.csv")) in str(caught.value)
        assert "rename it, or say clusters_path=<another CSV>" in str(caught.value)


# Carrying


def test_the_snapshot_has_the_clusters_that_the_relations_have(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    relations = read_relations(written(tmp_path / "own", "q_id,cluster\na,verbs\nb,verbs\n"))
    for given in (relations, dict(relations), as_relations(dict(relations))):
        meta = sample_trials(given, tiny_llama, demos=2, fit=2, held_out=2).snapshot.meta
        assert meta.clusters == {"a": "verbs", "b": "verbs"}


def test_clusters_that_are_given_take_the_place_of_those_that_were_read_and_change_no_trial(
    tiny_llama: LanguageModel,
) -> None:
    relations = read_relations(names=["antonym", "verb_past"])
    asked: dict[str, Any] = {"demos": 2, "fit": 2, "held_out": 2}
    shipped = sample_trials(relations, tiny_llama, **asked).snapshot
    own = sample_trials(relations, tiny_llama, **asked, clusters={"antonym": "mine"}).snapshot
    assert shipped.meta.clusters == {"antonym": "adjectives", "verb_past": "verbs"}
    assert own.meta.clusters == {"antonym": "mine"} and own.trials == shipped.trials
    assert sample_trials(relations, tiny_llama, **asked, clusters={}).snapshot.meta.clusters == {}
    with pytest.raises(TrialError, match="clusters names antonyms; the relations are antonym, verb_past"):
        sample_trials(relations, tiny_llama, **asked, clusters={"antonyms": "x"})


def test_a_part_of_a_snapshot_has_the_clusters_of_its_relations(tiny_llama: LanguageModel) -> None:
    relations = read_relations(names=["antonym", "verb_past"])
    snapshot = sample_trials(relations, tiny_llama, demos=2, fit=2, held_out=2).snapshot
    assert snapshot.only(["verb_past"]).meta.clusters == {"verb_past": "verbs"}


def test_the_shipped_file_is_plain() -> None:
    with SHIPPED.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["q_id", "cluster"] and all(len(row) == 2 for row in rows)
    assert SHIPPED.read_bytes().count(b"\r") == 0
