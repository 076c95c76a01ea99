"""Artifacts of another run are refused, and two processes do not write to one folder (spec section 4)."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fv.errors import ArtifactError
from fv.files import digest_of, sha256_of, write_text
from fv.runs.locks import locked
from fv.runs.outputs import Outputs, find_flaw, verify_outputs

# Hashes


def test_unchanged_outputs_are_accepted(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path)
    outputs.json("a.json", 1)
    write_text(outputs.add(tmp_path / "sub" / "b.csv"), "2")
    verify_outputs(tmp_path, outputs.hashes(), "StepD")


def test_outputs_are_the_files_that_were_written_each_once_and_no_other(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path)
    write_text(tmp_path / "other.json", "{}")
    outputs.jsonl("b.jsonl", [{"a": 1}])
    outputs.json("a.json", 1)
    outputs.json("a.json", 2)
    hashes = outputs.hashes()
    assert list(hashes) == ["b.jsonl", "a.json"]
    assert hashes == {name: sha256_of(tmp_path / name) for name in hashes}


def test_a_changed_output_is_refused_with_both_hashes(tmp_path: Path) -> None:
    outputs, path = Outputs(tmp_path), tmp_path / "a.csv"
    write_text(outputs.add(path), "before")
    recorded = outputs.hashes()
    write_text(path, "after")
    with pytest.raises(ArtifactError) as caught:
        verify_outputs(tmp_path, recorded, "StepD")
    for part in (str(path), recorded["a.csv"], sha256_of(path), "StepD"):
        assert part in str(caught.value)


def test_a_missing_output_is_refused_with_the_step_to_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"gone\.csv is missing, though StepD wrote it\. Run StepD again"):
        verify_outputs(tmp_path, {"gone.csv": "0" * 64}, "StepD")


@pytest.mark.parametrize("content", [None, "after"])
def test_what_is_wrong_with_an_output_is_told_apart_from_what_helps(tmp_path: Path, content: str | None) -> None:
    outputs = Outputs(tmp_path / "v1. of mine")
    outputs.json("a.json", "before")
    hashes, path = outputs.hashes(), outputs.folder / "a.json"
    assert find_flaw(outputs.folder, hashes, "StepD") is None
    path.unlink() if content is None else write_text(path, content)
    flaw = find_flaw(outputs.folder, hashes, "StepD")
    assert flaw is not None and str(path) in flaw.what and "overwrite" not in flaw.what
    with pytest.raises(ArtifactError) as caught:
        verify_outputs(outputs.folder, hashes, "StepD")
    assert str(caught.value) == f"{flaw.what}. {flaw.remedy}" and "overwrite=true" in flaw.remedy


def test_a_digest_is_of_the_value_and_not_of_the_order_of_its_keys() -> None:
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    assert digest_of({"a": [1, 2]}) != digest_of({"a": [2, 1]})


# Locks


@contextmanager
def held_by_another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process holds `folder` until its standard input ends."""
    code = (
        "import sys; from pathlib import Path; from fv.runs.locks import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def test_a_second_process_waits_with_one_line_until_the_first_is_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    with held_by_another_process(folder) as process:
        assert process.stdin is not None
        release = threading.Timer(0.5, process.stdin.close)
        release.start()
        with caplog.at_level("INFO"), locked(folder):
            # The other one is through, and so its input is closed.
            assert process.stdin.closed
    assert [record.getMessage() for record in caplog.records if "at work" in record.getMessage()] == [
        f"Another process is at work in {folder}; waiting for it."
    ]
    caplog.clear()
    with locked(folder):
        pass
    assert "waiting" not in caplog.text


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with held_by_another_process(tmp_path) as process:
        process.kill()
        process.wait()
        with locked(tmp_path):
            pass


def test_a_failure_inside_gives_the_folder_back(tmp_path: Path) -> None:
    with pytest.raises(json.JSONDecodeError), locked(tmp_path):
        json.loads("{")
    with locked(tmp_path):
        pass


def test_other_folders_are_free(tmp_path: Path) -> None:
    with held_by_another_process(tmp_path / "one"), locked(tmp_path / "two"):
        pass
