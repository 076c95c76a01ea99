"""Files that are not what they should be: the message says what they seem to be, and its advice works."""

import gzip
import io
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

import fv
from fv.config import DataConfig, Form
from fv.data.checks import check_rows
from fv.data.relations import read_configured
from fv.data.rows import Row
from fv.errors import RelationError

ROWS = "q_id,exA,exB\nq,hot,cold\n"


def as_parquet() -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"q_id": ["q"], "exA": ["hot"], "exB": ["cold"]}), file)
    return file.getvalue()


def as_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.xml", ROWS * 50, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def refusal(file: Path, content: bytes, **settings: Any) -> str:
    file.write_bytes(content)
    with pytest.raises(RelationError) as error:
        read_configured(DataConfig(**settings))
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (ROWS.replace(",", ";").encode(), "semicolons between cells: save it with commas."),
        (ROWS.replace(",", "|").encode(), "vertical bars between cells: save it with commas."),
        (b"<html><table>", "HTML or XML"),
        (gzip.compress(ROWS.encode(), mtime=0), "compressed by gzip: unpack it."),
        (as_zip(), "an Excel sheet (.xlsx)"),
        (ROWS.encode("utf-16"), "text in UTF-16: save it as UTF-8."),
        (pickle.dumps({"q": ["hot"]}), "pickled data"),
        (b"%PDF-1.7\n\xe2\xe3", "a PDF"),
        ("q_id,exA,exB\nq,café,b\n".encode("latin-1"), "Save it as UTF-8"),
        (b"exA,exB\nhot,cold\n", "Add q_id: relations, inputs and outputs are three columns."),
        (b"task,x,y\nq,hot,cold\n", "Other columns are named by q_id=<name>"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_by_what_it_seems_to_be(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "some.csv"
    message = refusal(path, content, relation_csv_path=str(path))
    assert message.startswith(str(path)) and told in message


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("some.csv", ROWS.replace(",", "\t").encode(), Form.csv),
        ("some.tsv", ROWS.encode(), Form.tsv),
        ("some.csv", as_parquet(), Form.csv),
        ("some.csv", b'[{"q_id": "q", "input": "hot", "output": "cold"}]', Form.csv),
        ("some.json", ROWS.encode(), Form.auto),
        ("some.parquet", ROWS.encode(), Form.parquet),
        ("some.parquet", b'[{"q_id": "q", "input": "hot", "output": "cold"}]', Form.parquet),
    ],
)
def test_the_form_that_a_refusal_advises_reads_the_file(tmp_path: Path, name: str, content: bytes, form: Form) -> None:
    path = tmp_path / name
    message = refusal(path, content, path=str(path), form=form)
    (advised,) = re.findall(r"form=(\w+) reads", message)
    assert [*read_configured(DataConfig(path=str(path), form=Form(advised)))["q"].pairs] == [("hot", "cold")]


def test_a_csv_of_the_settings_own_key_is_advised_by_keys_that_go_together(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    message = refusal(path, ROWS.replace(",", "\t").encode(), relation_csv_path=str(path))
    assert f"path={path} form=tsv reads that" in message


def test_a_folder_goes_on_without_the_file_that_a_refusal_names(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "good.csv").write_text(ROWS, encoding="utf-8")
    (tmp_path / "in" / "more.csv").write_text(ROWS.replace("q,", "r,"), encoding="utf-8")
    message = refusal(tmp_path / "in" / "notes.json", b'{"about": "these data"}', path=str(tmp_path))
    assert f"{tmp_path / 'in' / 'notes.json'} is a JSON object without" in message
    assert message.endswith('To go on without this file: include=["!in/notes.json"]')
    assert [*fv.read_relations(tmp_path, include=["!in/notes.json"])] == ["q", "r"]
    assert [*fv.read_relations(tmp_path, include=["*.csv"])] == ["q", "r"]
    assert [*fv.read_relations(tmp_path, include=["*.csv", "!more.csv"])] == ["q"]
    with pytest.raises(RelationError, match=r"include=\['\*\.tsv'\] leaves none of the files .*good\.csv"):
        fv.read_relations(tmp_path, include=["*.tsv"])
    with pytest.raises(RelationError, match="is a file, and include says which files of a folder are read"):
        fv.read_relations(tmp_path / "good.csv", include=["*.csv"])


words = st.text("abÄß猫 ", min_size=1, max_size=6).filter(lambda text: text == text.strip() and text)


@given(st.lists(words, min_size=2, max_size=4), st.sampled_from(["/", " / ", "|", "; "]))
def test_a_cell_of_several_words_behind_one_another_is_said_to_hold_alternatives(
    several: list[str], separator: str
) -> None:
    kinds = [found.kind for found in check_rows([Row("q", "hot", separator.join(several), "", 2)])]
    assert "cell that reads like alternatives; it is taken as one text" in kinds


@pytest.mark.parametrize("text", ["cold", "1/2", "3/4/2020", "https://a.b/c", "a, b", "/", "a/", "n-1"])
def test_other_cells_are_not(text: str) -> None:
    assert not [found for found in check_rows([Row("q", "hot", text, "", 2)]) if "alternatives" in found.kind]
