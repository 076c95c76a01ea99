"""Artifacts: safe names, files written whole or not at all, and damaged files refused (spec section 4)."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
import torch
from commands import run
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.config import Config
from fv.errors import ArtifactError
from fv.files import (
    read_json,
    read_jsonl,
    read_torch,
    safe_name,
    write_csv,
    write_json,
    write_jsonl,
    write_text,
    write_torch,
    write_whole,
)
from fv.runs.paths import RunPaths, ignores_case, refuse_one_file

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=15)
long_names = st.text("ab~/é", min_size=200, max_size=400)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Names


@given(names)
def test_a_short_safe_name_decodes_to_the_name(name: str) -> None:
    assert unquote(safe_name(name), errors="strict") == name


@given(names | long_names)
def test_a_safe_name_is_one_visible_file_name(name: str) -> None:
    safe = safe_name(name)
    assert safe.isascii() and not {"/", "\\", "\0", ":"} & set(safe)
    assert safe and not safe.startswith(".")
    assert len(f"qid_{safe}_clean_mean.pt") <= 255


@given(names | long_names, names | long_names)
def test_two_names_never_share_a_file(a: str, b: str) -> None:
    # A safe form may itself be somebody's name.
    everyone = {a, b, safe_name(a), safe_name(b)}
    assert len({safe_name(name) for name in everyone}) == len(everyone)


def test_long_names_with_one_beginning_stay_apart() -> None:
    assert safe_name("x" * 500 + "a") != safe_name("x" * 500 + "b")


def test_names_that_differ_in_case_are_refused_where_they_would_share_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").touch()
    assert ignores_case(tmp_path) == (tmp_path / "A").exists()
    monkeypatch.setattr("fv.runs.paths.ignores_case", lambda _: False)
    refuse_one_file(tmp_path, ["Capital", "capital", "past"])
    monkeypatch.setattr("fv.runs.paths.ignores_case", lambda _: True)
    refuse_one_file(tmp_path, ["capital", "past"])
    with pytest.raises(ArtifactError, match=r"in case only \(Capital and capital\).*data\.qids"):
        refuse_one_file(tmp_path, ["Capital", "capital", "past"])


@pytest.mark.parametrize("name", ["country_capital", "adj-adverb", "v1.2", "010", "NA"])
def test_plain_names_stay_as_they_are(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize("name", ["../up", "..", "/etc/passwd", "a/b", ".hidden", "con\0", "x" * 300, "ü" * 90])
def test_a_relations_file_stays_in_its_folder_whatever_its_name(folder: Path, name: str) -> None:
    paths = RunPaths(folder)
    path = paths.qid_mean(name)
    write_text(path, "mean")
    assert path.resolve().parent == paths.mean_acts.resolve()


def test_tagged_outputs_are_beside_the_untagged_ones() -> None:
    plain, tagged = RunPaths.of(Config(run_id="r")), RunPaths.of(Config(run_id="r", tag="k20"))
    assert plain.stepe.as_posix() == "results_fv/relation/r/artifacts"
    assert tagged.stepe.as_posix() == "results_fv/relation/r/artifacts/k20"
    assert plain.step6.as_posix() == "results_fv/relation/r/artifacts/step6"
    assert tagged.step6.as_posix() == "results_fv/relation/r/artifacts/step6/k20"
    assert plain.snapshot == tagged.snapshot


def test_step6_reads_its_own_tags_vectors_only_when_they_are_there(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path, "k20")
    assert paths.stepe_to_read == paths.artifacts
    write_json(paths.stepe / "fv_global_resid_meta.json", {})
    assert paths.stepe_to_read == paths.stepe


# Writing


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old", encoding="utf-8")

    def fail(temporary: Path) -> None:
        temporary.write_text("half", encoding="utf-8")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, fail)
    assert path.read_text(encoding="utf-8") == "old"
    assert files_in(tmp_path) == ["table.csv"]


def test_a_failing_writer_of_a_new_file_leaves_nothing(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"a": 1}
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_jsonl(tmp_path / "trials.jsonl", rows())
    assert files_in(tmp_path) == []


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old", encoding="utf-8")
    seen = []

    def slowly(temporary: Path) -> None:
        for text in ("", "half", "half and half"):
            temporary.write_text(text, encoding="utf-8")
            seen.append(path.read_text(encoding="utf-8"))

    write_whole(path, slowly)
    assert seen == ["old"] * 3
    assert path.read_text(encoding="utf-8") == "half and half"
    assert files_in(tmp_path) == ["a.json"]


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    code = (
        "import os, sys; from pathlib import Path; from fv.files import write_whole\n"
        "def die(temporary):\n    temporary.write_text('half'); os._exit(9)\n"
        "write_whole(Path(sys.argv[1]), die)"
    )
    run("-c", code, str(path), code=9)
    assert path.read_text(encoding="utf-8") == "old"


def test_a_written_file_can_be_read_by_others(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


def test_text_keeps_its_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "one\ntwo\r\nthree\u2028four")
    assert (tmp_path / "a.txt").read_bytes() == "one\ntwo\r\nthree\u2028four".encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {"rows": [1.0, math.nan]}])
def test_json_refuses_what_it_has_no_word_for_and_keeps_the_old_file(tmp_path: Path, value: object) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"good": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, value)
    with pytest.raises(ValueError, match="JSON"):
        write_jsonl(tmp_path / "b.jsonl", iter([{"value": value}]))
    assert read_json(path) == {"good": 1}
    assert files_in(tmp_path) == ["a.json"]


# Reading


@settings(deadline=None, max_examples=40)
@given(json_values)
def test_json_comes_back_exactly(folder: Path, value: object) -> None:
    write_json(folder / "a.json", value)
    assert read_json(folder / "a.json") == value


@settings(deadline=None, max_examples=40)
@given(st.lists(st.dictionaries(names, json_values, max_size=3), max_size=4))
def test_json_lines_come_back_exactly(folder: Path, rows: list[dict[str, Any]]) -> None:
    write_jsonl(folder / "a.jsonl", iter(rows))
    assert read_jsonl(folder / "a.jsonl") == rows


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_a_tables_floats_come_back_exactly(folder: Path, numbers: list[float]) -> None:
    write_csv(folder / "a.csv", pd.DataFrame({"x": numbers}))
    assert pd.read_csv(folder / "a.csv", float_precision="round_trip")["x"].tolist() == numbers


def test_tensors_come_back_exactly(tmp_path: Path) -> None:
    write_torch(tmp_path / "a.pt", {"mean": torch.tensor([0.1, -0.0, 3e-45]), "heads": [[0, 1]], "k": 2})
    back = read_torch(tmp_path / "a.pt")
    assert torch.equal(back["mean"], torch.tensor([0.1, -0.0, 3e-45]))
    assert (back["heads"], back["k"]) == ([[0, 1]], 2)


@pytest.mark.parametrize("read", [read_json, read_torch, read_jsonl])
def test_a_missing_file_is_named(tmp_path: Path, read: Any) -> None:
    with pytest.raises(ArtifactError, match=r"none\.xyz is missing"):
        read(tmp_path / "none.xyz")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path: Path, share: float) -> None:
    write_json(tmp_path / "a.json", {"numbers": list(range(50))})
    write_jsonl(tmp_path / "a.jsonl", iter([{"numbers": list(range(50))}]))
    write_torch(tmp_path / "a.pt", torch.arange(50))
    for name, read in (("a.json", read_json), ("a.jsonl", read_jsonl), ("a.pt", read_torch)):
        path = tmp_path / name
        whole = path.read_bytes()
        if name == "a.jsonl" and share == 0.0:
            continue  # no line at all is a file of no rows
        path.write_bytes(whole[: int((len(whole) - 2) * share)])
        with pytest.raises(ArtifactError, match=rf"{name} is .*truncated"):
            read(path)


@pytest.mark.parametrize("content", [b"not a tensor", b"\x80\x04K\x01.", b"PK\x03\x04"])
def test_a_file_of_another_kind_is_not_a_tensor_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"a\.pt is truncated or is not a tensor file"):
        read_torch(tmp_path / "a.pt")


class Mischief:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_pickle_of_arbitrary_objects_is_refused_and_does_nothing(tmp_path: Path) -> None:
    torch.save({"mean": torch.zeros(2), "more": Mischief(tmp_path / "made")}, tmp_path / "a.pt")
    with pytest.raises(ArtifactError, match=r"a\.pt is truncated or is not a tensor file"):
        read_torch(tmp_path / "a.pt")
    assert files_in(tmp_path) == ["a.pt"]
    torch.load(tmp_path / "a.pt", weights_only=False)
    assert files_in(tmp_path) == ["a.pt", "made"]  # it would have
