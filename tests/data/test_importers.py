"""Importers: each form gives the same rows, exactly as written, or a message with file, line and column."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MakeConfig
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fv.config import ColumnsConfig, DataConfig, Form
from fv.data.importers import read_table
from fv.data.relations import read_configured
from fv.data.rows import Table
from fv.errors import ConfigError, RelationError

Triple = tuple[str, str, str]
cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)
tables = st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=8)
PASSAGE = 'He said: "Go."\nThen, a new line.\n\n\tAnd a third paragraph; 中文, عربى 👩🏽‍🚀.'


def read(path: Path, content: str | bytes, columns: ColumnsConfig | None = None, form: Form = Form.auto) -> Table:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path, columns or ColumnsConfig(), form)


def refusal(path: Path, content: str | bytes, columns: ColumnsConfig | None = None, form: Form = Form.auto) -> str:
    """The message about a file that is no table at all; it always names the file."""
    with pytest.raises(RelationError) as caught:
        read(path, content, columns, form)
    assert str(path) in str(caught.value)
    return str(caught.value)


def triples(table: Table) -> list[Triple]:
    assert not table.bad, table.bad
    return [row[:3] for row in table.rows]


def separated(rows: list[Triple], delimiter: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("q_id", "exA", "exB"), *rows])
    return text.getvalue()


def objects(rows: list[Triple]) -> list[dict[str, str]]:
    return [dict(zip(("q_id", "exA", "exB"), row, strict=True)) for row in rows]


def parquet(rows: list[Triple]) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    buffer = io.BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(objects(rows)), buffer)
    return buffer.getvalue()


FORMS: dict[str, Callable[[list[Triple]], str | bytes]] = {
    "t.csv": lambda rows: separated(rows, ","),
    "t.tsv": lambda rows: separated(rows, "\t"),
    "t.json": lambda rows: json.dumps(objects(rows), ensure_ascii=False, indent=1),
    "escaped.json": lambda rows: json.dumps(objects(rows)),
    "t.jsonl": lambda rows: "\n".join(json.dumps(item, ensure_ascii=False) for item in objects(rows)),
    "lines.json": lambda rows: "\n".join(map(json.dumps, objects(rows))) + "\n",
    "t.parquet": parquet,
}


@pytest.mark.parametrize("name", FORMS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=tables)
def test_what_is_written_in_a_form_is_read_back_exactly(name: str, rows: list[Triple], tmp_path: Path) -> None:
    assert triples(read(tmp_path / name, FORMS[name](rows))) == rows


@pytest.mark.parametrize("name", FORMS)
def test_a_passage_of_several_lines_survives(name: str, tmp_path: Path) -> None:
    rows = [("summary", PASSAGE, "Go."), ("summary", "x", PASSAGE)]
    assert triples(read(tmp_path / name, FORMS[name](rows))) == rows


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.json", "t.jsonl", "t.parquet"])
def test_a_file_without_a_telling_suffix_is_known_by_its_content(name: str, tmp_path: Path) -> None:
    rows = [("q", "a", "b"), ("q", "c", "d")]
    assert triples(read(tmp_path / "data", FORMS[name](rows))) == rows


def test_a_function_vectors_list_is_one_relation_named_after_its_file(tmp_path: Path) -> None:
    content = '[{"input": "hot", "output": "cold"},\n {"input": "big", "output": "small"}]'
    table = read(tmp_path / "antonym.json", content)
    assert triples(table) == [("antonym", "hot", "cold"), ("antonym", "big", "small")]
    assert [row.line for row in table.rows] == [1, 2]


def test_an_lre_object_gives_its_samples_with_their_lines(tmp_path: Path) -> None:
    content = json.dumps(
        {
            "name": "country capital",
            "properties": {"samples": "not these", "depth": [1, {"a": []}]},
            "samples": [{"subject": "France", "object": "Paris"}, {"subject": "Italy", "object": "Rome"}],
            "prompt_templates": ["The capital of {} is"],
        },
        indent=1,
    )
    table = read(tmp_path / "country_capital_city.json", content)
    assert triples(table) == [("country_capital_city", "France", "Paris"), ("country_capital_city", "Italy", "Rome")]
    lines = content.split("\n")
    assert ["France" in lines[row.line] or "Italy" in lines[row.line] for row in table.rows] == [True, True]


def test_a_folder_is_read_whole_with_the_file_of_every_row(tmp_path: Path) -> None:
    read(tmp_path / "in" / "a" / "antonym.json", '[{"input": "hot", "output": "cold"}]')
    read(tmp_path / "in" / "b" / "capital.json", '{"samples": [{"subject": "Italy", "object": "Rome"}]}')
    read(tmp_path / "in" / "more.tsv", "q_id\texA\texB\nplural\tcat\tcats\n")
    (tmp_path / "in" / "README.md").write_text("not data", encoding="utf-8")
    table = read_table(tmp_path / "in", ColumnsConfig())
    assert triples(table) == [("antonym", "hot", "cold"), ("capital", "Italy", "Rome"), ("plural", "cat", "cats")]
    assert [row.file for row in table.rows] == ["a/antonym.json", "b/capital.json", "more.tsv"]


def test_a_folders_hash_is_of_every_file_read(tmp_path: Path) -> None:
    read(tmp_path / "a.json", '[{"input": "hot", "output": "cold"}]')
    before = read_table(tmp_path, ColumnsConfig()).sha256
    assert read_table(tmp_path, ColumnsConfig()).sha256 == before
    (tmp_path / "a.json").rename(tmp_path / "b.json")
    assert read_table(tmp_path, ColumnsConfig()).sha256 != before


def test_two_files_that_name_one_relation_are_refused(tmp_path: Path) -> None:
    for folder in "ab":
        read(tmp_path / folder / "antonym.json", '[{"input": "hot", "output": "cold"}]')
    with pytest.raises(RelationError, match=r"antonym comes from several files: a/antonym\.json, b/antonym\.json"):
        read_table(tmp_path, ColumnsConfig())


def test_a_folder_without_data_is_refused_with_the_known_suffixes(tmp_path: Path) -> None:
    with pytest.raises(RelationError, match=r"holds no file to read; known are \.csv"):
        read_table(tmp_path, ColumnsConfig())


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.json", "t.jsonl", "t.parquet"])
def test_columns_are_mapped_in_every_form(name: str, tmp_path: Path) -> None:
    content = FORMS[name]([("antonym", "hot", "cold")])
    columns = ColumnsConfig(q_id="exB", exA="q_id", exB="exA")  # the names of the file, in other roles
    assert triples(read(tmp_path / name, content, columns)) == [("cold", "antonym", "hot")]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.json", "t.jsonl", "t.parquet"])
def test_a_missing_column_is_named_with_the_ones_there(name: str, tmp_path: Path) -> None:
    message = refusal(tmp_path / name, FORMS[name]([("q", "a", "b")]), ColumnsConfig(q_id="task"))
    assert "task" in message and "exA" in message and "q_id=<name>, exA=<name>" in message


def test_a_number_in_json_is_taken_as_it_is_written(tmp_path: Path) -> None:
    table = read(tmp_path / "next.json", '[{"input": 1.50, "output": 12345678901234567890}]')
    assert triples(table) == [("next", "1.50", "12345678901234567890")]


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ('{"input": "a"}', "line 2: no key output"),
        ('{"input": "a", "output": null}', "line 2: column output does not hold text"),
        ('{"input": "a", "output": ["b"]}', "line 2: column output does not hold text"),
        ('{"input": "a", "output": true}', "line 2: column output does not hold text"),
        ('{"input": " ", "output": "b"}', "line 2: column input is empty"),
        ('{"input": "a\\u0000", "output": "b"}', "line 2: column input holds a NUL character"),
        ('{"input": "a", "output": "\\ud83d"}', "line 2: column output holds half a surrogate pair"),
        ("7", "line 2: not a JSON object"),
    ],
)
@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_a_bad_item_is_named_by_line_and_key(name: str, item: str, told: str, tmp_path: Path) -> None:
    good = '{"input": "a", "output": "b"}'
    content = f"[{good},\n{item},\n{good}]" if name == "t.json" else f"{good}\n{item}\n{good}\n"
    table = read(tmp_path / name, content)
    assert [str(bad) for bad in table.bad] == [told]
    assert [row.line for row in table.rows] == [1, 3]


def test_every_broken_line_of_json_lines_is_named(tmp_path: Path) -> None:
    table = read(tmp_path / "t.jsonl", '{"input": "a", "output": "b"}\n{"input": \n\n{"input": "a" "b"}\n')
    assert all("not JSON in column" in bad.what for bad in table.bad)
    assert [bad.line for bad in table.bad] == [2, 4]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('[{"input": "a", "output": "b"}', "line 1, column 31"),
        ('[{"input": "a", "output": "b"}\n{}]', "line 2, column 1: Expecting ',' delimiter"),
        ('[{"input": "a", "output": "b"}] x', "line 1, column 33: Extra data"),
        ('{"samples": [{"subject": "a", "object": "b"}]} x', "line 1, column 48: Extra data"),
        ('[{"input": "a", "input": "b", "output": "c"}]', "one key twice"),
        ('{"name": "x"}', "without a list `samples`"),
        ('"text"', "neither a JSON list nor a JSON object"),
        ("", "neither a JSON list nor a JSON object"),
        ("[" * 100_000, "not usable JSON"),
    ],
)
def test_what_is_not_json_is_refused_with_its_place(content: str, told: str, tmp_path: Path) -> None:
    assert told in refusal(tmp_path / "t.json", content)


def test_an_empty_list_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("[ ]", encoding="utf-8")
    with pytest.raises(RelationError, match="no rows"):
        read_configured(DataConfig(path=str(tmp_path / "t.json")))


def test_a_byte_that_is_not_utf8_is_placed_behind_a_byte_order_mark_too(tmp_path: Path) -> None:
    content = b"q_id,exA,exB\nq,caf\xe9,c\n"
    for mark in (b"", b"\xef\xbb\xbf"):
        assert "line 2 holds byte 0xE9 in column 6" in refusal(tmp_path / "t.csv", mark + content)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "function-vectors[parquet]" in refusal(tmp_path / "t.parquet", b"PAR1")


def test_what_is_named_parquet_and_is_none_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    assert "is not Parquet" in refusal(tmp_path / "t.parquet", "q_id,exA,exB\n")


def test_bad_rows_of_a_folder_are_named_with_their_files(tmp_path: Path) -> None:
    read(tmp_path / "a.csv", "q_id,exA,exB\nq,a,\n")
    read(tmp_path / "b.jsonl", '{"q_id": "q", "exA": "a", "exB": "b"}\n{"q_id": "q", "exA": "", "exB": "b"}\n')
    with pytest.raises(RelationError) as caught:
        read_configured(DataConfig(path=str(tmp_path)))
    assert "a.csv, line 2: column exB is empty" in str(caught.value)
    assert "b.jsonl, line 2: column exA is empty" in str(caught.value)


def test_the_path_is_a_setting_and_excludes_another_csv(make_config: MakeConfig) -> None:
    config = make_config("data.path=some/folder")
    assert config.data.source == "some/folder"  # what the snapshot names as its source
    with pytest.raises(ConfigError, match="give one"):
        make_config("data.path=some/folder", "data.relation_csv_path=my.csv")


def test_a_csv_given_as_such_is_read_as_one_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text("q_id,exA,exB\nq,a,b\n", encoding="utf-8")
    assert read_configured(DataConfig(relation_csv_path=str(path))).relations[0].q_id == "q"


# Forms that are asked for: data=<name> data.path=…

CONTENTS: dict[Form, str | bytes] = {
    Form.csv: "q_id,exA,exB\nq,a\tc,b\n",
    Form.tsv: "q_id\texA\texB\nq\ta,c\tb\n",
    Form.function_vectors: '[{"input": "a", "output": "b"}]',
    Form.lre: '{"name": "x", "samples": [{"subject": "a", "object": "b"}]}',
    Form.jsonl: '{"input": "a", "output": "b"}\n{"input": "c", "output": "d"}\n',
    Form.parquet: parquet([("q", "a", "b")]),
}


@pytest.mark.parametrize("form", CONTENTS)
def test_a_form_that_is_asked_for_needs_no_suffix_and_takes_no_other(form: Form, tmp_path: Path) -> None:
    for other, content in CONTENTS.items():
        path = tmp_path / other / "q.txt"
        if other is form:
            found = triples(read(path, content, form=form))
            assert found == triples(read(path, content)) and found[0][0] == "q"
        elif (table := attempt(path, content, form)) is not None:
            assert not table.rows and table.bad  # JSON lines say of every line that it is none


def attempt(path: Path, content: str | bytes, form: Form) -> Table | None:
    """The table, or None and a message that names the file."""
    try:
        return read(path, content, form=form)
    except RelationError as error:
        assert str(path) in str(error)
        return None


@pytest.mark.parametrize("name", Form)
def test_each_importer_is_chosen_by_name(name: Form, make_config: MakeConfig, tmp_path: Path) -> None:
    if name is Form.auto:
        return
    suffix = {Form.function_vectors: "json", Form.lre: "json"}.get(name, name.value)
    content = CONTENTS.get(name, "q_id,exA,exB\nq,a,b\n")
    read(tmp_path / f"q.{'csv' if name is Form.folder else suffix}", content)
    (tmp_path / "q.md").write_text("passed over")
    config = make_config(f"data={name}", f"data.path={tmp_path}")
    assert config.data.form is name
    assert [relation.q_id for relation in read_configured(config.data).relations] == ["q"]


@pytest.mark.parametrize("override", ["data=lre", "data.form=lre"])
def test_an_importer_without_a_path_is_told_so(make_config: MakeConfig, override: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.form=lre needs data\.path="):
        make_config(override)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    assert "is a file, and form=folder" in refusal(tmp_path / "t.csv", "q_id,exA,exB\n", form=Form.folder)


def test_a_folder_of_one_form_passes_over_the_others(tmp_path: Path) -> None:
    read(tmp_path / "in" / "one.json", CONTENTS[Form.lre])
    read(tmp_path / "in" / "two.csv", CONTENTS[Form.csv])
    assert [row.q_id for row in read_table(tmp_path / "in", ColumnsConfig(), Form.lre).rows] == ["one"]
    with pytest.raises(RelationError, match=r"known are \.tsv"):
        read_table(tmp_path / "in", ColumnsConfig(), Form.tsv)
