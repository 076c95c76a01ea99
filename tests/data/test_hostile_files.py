"""Hostile files: whatever the bytes are, they are read exactly or refused with a place, and nothing else happens."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fv.config import ColumnsConfig, Form
from fv.data.importers import read_table
from fv.errors import RelationError

# Fragments that break readers, glued together at random.
FRAGMENTS = [
    *(b"q_id,exA,exB\n", b"q_id\texA\texB\n", b"q,a,b\n", b"q,c,d", b",", b'"', b'""', b"\n", b"\r\n", b"\r", b"\t"),
    *(
        b"\0",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xe9",
        b"caf\xc3\xa9",
        "\u200fשלום".encode(),
        "👩🏽‍🚀".encode(),
        b"\xf0\x9f",
    ),
    *(
        b'[{"input": "a", "output": "b"}',
        b'{"samples": [',
        b'{"subject": "a", "object": "b"}',
        b"]",
        b"}",
        b", ",
        b": ",
    ),
    *(b'{"q_id": "q", "exA": "x", "exB": "y"}', b'"\\ud800"', b"null", b"1e999", b"NaN", b"PAR1", b"-", b" ", b"   \n"),
]
contents = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=14).map(b"".join)
FORMS = ["t.csv", "t.tsv", "t.json", "t.jsonl", "t.txt"]
light = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
LONG = "wörd " * 200_000 + "."  # more than a megabyte


@pytest.mark.parametrize("name", FORMS)
@light
@given(content=contents)
def test_any_bytes_are_rows_with_places_or_one_refusal(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    try:
        table = read_table(path, ColumnsConfig())
    except RelationError as error:
        assert str(path) in str(error)
    else:
        n_lines = len(re.findall(rb"\r\n|\r|\n", content)) + 1
        for line in (*(row.line for row in table.rows), *(row.line for row in table.bad)):
            assert 1 <= line <= n_lines
        for row in table.rows:
            assert all(cell.strip() and "\0" not in cell for cell in row[:3])
            "".join(row[:3]).encode()
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == [name]
    path.unlink()


@light
@given(content=contents.map(lambda tail: b"q_id,exA,exB\n" + tail))
def test_a_csv_gives_the_cells_that_a_strict_reader_gives(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    try:
        table = read_table(path, ColumnsConfig(), Form.csv)
    except RelationError as error:
        assert "line" in str(error)
        return
    records = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))[1:]
    good = [tuple(r) for r in records if len(r) == 3 and all(c.strip() for c in r) and not any("\0" in c for c in r)]
    assert [row[:3] for row in table.rows] == good


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.json", "t.jsonl"])
def test_a_cell_of_a_megabyte_is_read_exactly(name: str, tmp_path: Path) -> None:
    item = {"q_id": "q", "exA": LONG, "exB": "b"}
    delimiter = "\t" if name == "t.tsv" else ","
    text = {
        "t.json": json.dumps([item]),
        "t.jsonl": json.dumps(item, ensure_ascii=False),
    }.get(name, delimiter.join(item) + "\n" + delimiter.join(item.values()) + "\n")
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [row[:3] for row in read_table(tmp_path / name, ColumnsConfig()).rows] == [("q", LONG, "b")]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("q_id,exA,exB\nq,a,b\n".encode("utf-16"), "line 1 holds byte 0xFF in column 1"),
        (b"q_id,exA,exB\nq,caf\xc3\xa9,\xe9\n", "line 2 holds byte 0xE9 in column 9"),
        (b'q_id,exA,exB\nq,"a\nb\n', "the row that begins on line 2 is not CSV"),
    ],
)
def test_mixed_encodings_and_torn_quotes_are_refused_with_their_place(
    content: bytes, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(RelationError, match=re.escape(told)):
        read_table(path, ColumnsConfig())
