"""Relations: cells are read exactly as written, and every bad row is named (spec sections 1, 3 and 7)."""

import csv
import hashlib
import io
import re
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.config import ColumnsConfig, DataConfig
from fv.data.relations import Pair, Relations, normalise, read_configured
from fv.errors import RelationError

HEADER = "q_id,exA,exB\n"
# What pandas, a line splitter, a number parser or a stripper would change.
HARD_CELLS = [
    *("NA", "null", "None", "nan", "010", "1e3", "1_000", "True", " padded ", "\ttab\t", "#x", ";"),
    *('say "hi"', '"', '""', "'", "a,b", "two\nlines", "two\r\nlines", "a\rb", "\n\nx"),
    *(
        "\ufeffx",
        "line\u2028separator",
        "paragraph\u2029separator",
        "next\x85line",
        "form\x0cfeed",
        "file\x1cseparator",
    ),
    *("👩🏽‍🚀", "مرحبا", "\u200fשלום", "é", "e\u0301", "\u200b", "ﬁ"),
]
cells = st.one_of(
    st.sampled_from(HARD_CELLS),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip),
)
# QUOTE_MINIMAL leaves a lone \r bare unless the line end contains it.
dialects = st.sampled_from([(csv.QUOTE_MINIMAL, "\r\n"), (csv.QUOTE_ALL, "\n"), (csv.QUOTE_ALL, "\r")])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file that each test writes anew."""
    return tmp_path_factory.mktemp("relations") / "some.csv"


def read(path: Path, content: str | bytes, **data: Any) -> Relations:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_configured(DataConfig(relation_csv_path=str(path), **data))


def refusal(path: Path, content: str | bytes, **data: object) -> str:
    """The message about a bad file; it always names the file."""
    with pytest.raises(RelationError) as caught:
        read(path, content, **data)
    assert str(path) in str(caught.value)
    return str(caught.value)


def rows_of(file: Relations) -> list[tuple[str, str, str]]:
    return [(relation.q_id, *pair) for relation in file.relations for pair in relation.pairs]


@settings(deadline=None, max_examples=150)
@given(rows=st.lists(st.tuples(cells, cells, cells), min_size=1), dialect=dialects, bom=st.booleans())
def test_every_cell_is_read_as_it_was_written(
    path: Path, rows: list[tuple[str, str, str]], dialect: tuple[Literal[0, 1], str], bom: bool
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, quoting=dialect[0], lineterminator=dialect[1])
    writer.writerows([("q_id", "exA", "exB"), *rows])
    file = read(path, text.getvalue().encode("utf-8-sig" if bom else "utf-8"))
    distinct = list(dict.fromkeys(rows))
    assert rows_of(file) == sorted(distinct, key=lambda row: row[0])  # a stable sort keeps file order
    assert sum(relation.n_duplicates for relation in file.relations) == len(rows) - len(distinct)


@pytest.mark.parametrize("cell", HARD_CELLS)
def test_a_quoted_hard_cell_is_read_exactly(path: Path, cell: str) -> None:
    quoted = '"' + cell.replace('"', '""') + '"'
    assert rows_of(read(path, f"{HEADER}q,{quoted},b\nq,c,{quoted}\n")) == [("q", cell, "b"), ("q", "c", cell)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_will_do_and_so_does_none_at_the_end(path: Path, end: str) -> None:
    assert rows_of(read(path, end.join(["q_id,exA,exB", "q,a,b", "q,c,d"]))) == [("q", "a", "b"), ("q", "c", "d")]


def test_a_long_passage_fits_in_a_cell(path: Path) -> None:
    assert rows_of(read(path, f"{HEADER}q,{'x' * 200_000},b\n")) == [("q", "x" * 200_000, "b")]


def test_further_columns_are_ignored_and_order_is_free(path: Path) -> None:
    file = read(path, "note,exB,q_id,exA\n,little,antonym,big\nsee below,sell,antonym,buy\n")
    assert rows_of(file) == [("antonym", "big", "little"), ("antonym", "buy", "sell")]


def test_columns_can_have_other_names(path: Path) -> None:
    columns = ColumnsConfig(q_id="task", exA="in", exB="out")
    assert rows_of(read(path, "in,exA,out,task\nbig,?,little,antonym\n", columns=columns)) == [
        ("antonym", "big", "little")
    ]


def test_the_sha256_is_of_the_bytes_read(path: Path) -> None:
    content = b"\xef\xbb\xbfq_id,exA,exB\r\nq,a,b\r\n"
    assert read(path, content).sha256 == hashlib.sha256(content).hexdigest()


def test_a_missing_column_is_named_with_the_ones_there(path: Path) -> None:
    message = refusal(path, "q_id,input,exB\nq,a,b\n")
    assert "line 1" in message and "no column exA" in message and "q_id, input, exB" in message


def test_a_missing_mapped_column_is_named_by_its_mapped_name(path: Path) -> None:
    assert "no column task" in refusal(path, f"{HEADER}q,a,b\n", columns=ColumnsConfig(q_id="task"))


def test_a_repeated_column_is_named(path: Path) -> None:
    message = refusal(path, "q_id,exA,exB,exB\nq,a,b,c\n")
    assert "line 1" in message and "column exB twice" in message


@pytest.mark.parametrize("content", ["", "\n", "\ufeff"])
def test_a_file_without_a_header_lacks_every_column(path: Path, content: str) -> None:
    assert "line 1, has no column q_id, exA, exB; its columns are: none" in refusal(path, content)


@pytest.mark.parametrize("content", [HEADER, HEADER + "\n\n", HEADER.strip()])
def test_a_header_without_rows_is_refused(path: Path, content: str) -> None:
    assert "no rows" in refusal(path, content)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (",,", "line 3: the row is empty"),
        (" ,\t,\u3000", "line 3: the row is empty"),
        ("q,,b", "line 3: column exA is empty"),
        ("q,a,  ", "line 3: column exB is empty"),
        (",a,b", "line 3: column q_id is empty"),
        ('"",a,""', "line 3: column q_id, exB is empty"),
        ("q,a", "line 3: 2 cells, where the header has 3"),
        ("q,a,b,c", "line 3: 4 cells, where the header has 3"),
        ("q,a,b\0c", "line 3: column exB holds a NUL character"),
        ("", "line 3: the row is empty"),
    ],
)
def test_a_bad_row_is_named_by_line_and_column(path: Path, row: str, told: str) -> None:
    assert told in refusal(path, f"{HEADER}q,a,b\n{row}\nq,c,d\n")


def test_lines_are_counted_across_quoted_newlines_and_blank_lines(path: Path) -> None:
    message = refusal(path, f'{HEADER}q,"three\nlines\nlong",b\n\nq,,d\n')
    assert re.findall(r"line \d+: .*", message) == ["line 5: the row is empty", "line 6: column exA is empty"]


def test_a_bad_row_of_several_lines_is_named_by_its_first(path: Path) -> None:
    assert "line 3: column exB is empty" in refusal(path, f'{HEADER}q,a,b\nq,"two\nlines",\n')


def test_blank_lines_at_the_end_are_not_rows(path: Path) -> None:
    assert rows_of(read(path, f"{HEADER}q,a,b\n\n\n")) == [("q", "a", "b")]


def test_several_problems_are_reported_at_once(path: Path) -> None:
    message = refusal(path, f"{HEADER}q,,b\nq,a,b\nq,a\n,,\n")
    assert "line 2: column exA" in message and "line 4: 2 cells" in message and "line 5: the row is empty" in message


def test_ten_problems_are_shown_and_the_others_counted(path: Path) -> None:
    message = refusal(path, HEADER + "q,,b\n" * 25)
    assert message.count("column exA is empty") == 10 and "15 more" in message


@pytest.mark.parametrize("row", ['q,"a"b,c', 'q,"a,b'])
def test_broken_quotes_are_refused_with_their_line(path: Path, row: str) -> None:
    assert "line 3" in refusal(path, f"{HEADER}q,a,b\n{row}")


def test_a_file_that_is_not_utf8_is_named_with_the_line_and_the_byte(path: Path) -> None:
    message = refusal(path, f"{HEADER}q,a,b\nq,café,c\n".encode("latin-1"))
    assert "not UTF-8" in message and "line 3" in message and "0xE9" in message


def test_a_missing_file_is_named_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RelationError, match=re.escape(str(tmp_path / "sub" / "none.csv"))):
        read_configured(DataConfig(relation_csv_path="sub/none.csv"))


def test_the_shipped_file_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "country_capital" in [relation.q_id for relation in read_configured(DataConfig()).relations]


def test_a_relative_path_is_looked_for_here_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "datasets" / "relation" / "default.csv"
    here.parent.mkdir(parents=True)
    here.write_text(f"{HEADER}mine,a,b\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert rows_of(read_configured(DataConfig())) == [("mine", "a", "b")]


def test_a_duplicate_is_used_once_and_counted(path: Path) -> None:
    file = read(path, f"{HEADER}q,a,b\nq,c,d\nq,a,b\nq,a,b\nother,a,b\n")
    assert rows_of(file) == [("other", "a", "b"), ("q", "a", "b"), ("q", "c", "d")]
    assert [relation.n_duplicates for relation in file.relations] == [0, 2]
    assert file.warnings() == ["q: 2 duplicate pairs; each is used once."]


def test_an_input_with_several_outputs_is_counted_once(path: Path) -> None:
    file = read(path, f"{HEADER}q,big,small\nq,BIG,little\nq,big,tiny\nq,hot,cold\n")
    assert file.relations[0].n_one_to_many == 1
    assert len(file.relations[0].pairs) == 4
    assert file.warnings() == ["q: 1 inputs have several outputs."]


def test_one_input_in_two_relations_is_not_ambiguous(path: Path) -> None:
    assert read(path, f"{HEADER}capital,France,Paris\nlanguage,France,French\n").warnings() == []


def test_one_pair_written_in_two_cases_is_not_an_input_with_several_outputs(path: Path) -> None:
    assert read(path, f"{HEADER}q,Big,small\nq,big,small\n").relations[0].n_one_to_many == 0


@pytest.mark.parametrize(("rows", "told"), [("q,a,b\nq,a,b\n", "1 duplicate"), ("q,a,b\nq,a,c\n", "several outputs")])
def test_strict_refuses_what_is_otherwise_a_warning(path: Path, rows: str, told: str) -> None:
    message = refusal(path, HEADER + rows, strict=True)
    assert told in message and "because strict=true" in message and "q:" in message


def test_strict_accepts_a_clean_file(path: Path) -> None:
    assert rows_of(read(path, f"{HEADER}q,a,b\nq,c,b\n", strict=True)) == [("q", "a", "b"), ("q", "c", "b")]


def test_only_the_named_relations_are_kept(path: Path) -> None:
    file = read(path, f"{HEADER}010,a,b\n10,c,d\n8,e,f\n", qids=["8", "010"])
    assert rows_of(file) == [("010", "a", "b"), ("8", "e", "f")]


def test_strict_looks_at_the_named_relations_only(path: Path) -> None:
    assert rows_of(read(path, f"{HEADER}bad,a,b\nbad,a,b\ngood,a,b\n", qids=["good"], strict=True)) == [
        ("good", "a", "b")
    ]


def test_an_unknown_relation_is_refused_with_the_known_ones(path: Path) -> None:
    message = refusal(path, f"{HEADER}antonym,a,b\nplural,c,d\n", qids=["antonym", "capital"])
    assert "no relation capital." in message and "antonym, plural" in message


@pytest.mark.parametrize(
    ("a", "b"), [("Paris", "paris"), ("straße", "STRASSE"), ("ﬁsh", "fish"), ("a  b\u00a0c", "A b C"), ("é", "e\u0301")]
)
def test_spelling_variants_count_as_the_same(a: str, b: str) -> None:
    assert normalise(a) == normalise(b)


@given(st.text())
def test_a_normal_form_is_its_own_normal_form(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_pairs_are_named_and_ordered(path: Path) -> None:
    assert read(path, f"{HEADER}q,b,x\nq,a,y\n").relations[0].pairs == (Pair("b", "x"), Pair("a", "y"))
