"""Files of a run: where they are, how they are written whole or not at all, how they are read back safely.

Layout and rules: spec section 4.
"""

import hashlib
import io
import json
import logging
import os
import platform
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout

from fv.config import Config
from fv.errors import ArtifactError

log = logging.getLogger(__name__)
FV_META = "fv_global_resid_meta.json"
AIE_META = "fv_meta.json"


@dataclass(frozen=True)
class RunPaths:
    """The folders of one run.

    Attributes:
        root: `results_fv/relation/<run_id>`.
        tag: the tag StepE and Step6 write under, if any.
    """

    root: Path
    tag: str | None = None

    @classmethod
    def of(cls, config: Config) -> "RunPaths":
        return cls(Path(config.results_dir) / "relation" / config.run_id, config.tag)

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def snapshot(self) -> Path:
        return self.artifacts / "sampled_trials.json"

    @property
    def stepd_meta(self) -> Path:
        return self.artifacts / "stepD_meta.json"

    @property
    def mean_acts(self) -> Path:
        return self.artifacts / "stepD_mean_acts"

    @property
    def units(self) -> Path:
        """Finished pieces of all steps (`fv.steps.units`)."""
        return self.artifacts / "units"

    def qid_mean(self, qid: str) -> Path:
        return self.mean_acts / f"qid_{safe_name(qid)}_clean_mean.pt"

    def qid_other_means(self, qid: str) -> Path:
        """What Step6's controls and baselines need beside the clean mean."""
        return self.artifacts / "stepD_other_means" / f"qid_{safe_name(qid)}.pt"

    @property
    def stepe(self) -> Path:
        """Where StepE writes: `artifacts/`, or `artifacts/<tag>/`."""
        return self.artifacts / self.tag if self.tag else self.artifacts

    @property
    def stepe_to_read(self) -> Path:
        """Where Step6 finds vectors: under its own tag if StepE ran with it, else untagged."""
        return self.stepe if (self.stepe / FV_META).exists() else self.artifacts

    @property
    def step6(self) -> Path:
        base = self.artifacts / "step6"
        return base / self.tag if self.tag else base


def run_folder(step6: Path) -> Path:
    """The run that a Step6 folder belongs to; the folder itself where it is in none."""
    return next((parent.parent for parent in step6.parents if parent.name == "artifacts"), step6)


def safe_name(name: str) -> str:
    """A file-name form of `name`: percent-encoded, so `urllib.parse.unquote` gives the name back.

    Two names never share a file, unless they differ in case only and the file system ignores it
    (`refuse_one_file`). A form too long for a file name is cut and ends in the name's SHA-256; the files of such a
    relation hold the whole name inside.
    """
    encoded = quote(name, safe="").replace("~", "%7E")
    encoded = "%2E" + encoded[1:] if encoded.startswith(".") else encoded
    return encoded if len(encoded) <= 180 else f"{encoded[:100]}~{hashlib.sha256(name.encode()).hexdigest()}"


def refuse_one_file(folder: Path, names: Iterable[str]) -> None:
    """Refuse names that differ in case only, where the file system of `folder` would keep them in one file.

    Raises:
        ArtifactError: naming them.
    """
    of_form: dict[str, list[str]] = defaultdict(list)
    for name in names:
        of_form[safe_name(name).lower()].append(name)
    twins = [several for several in of_form.values() if len(several) > 1]
    if twins and ignores_case(folder):
        named = "; ".join(" and ".join(several) for several in twins)
        raise ArtifactError(
            f"Relations differ in case only ({named}), and the file system of {folder} would keep them in one file. "
            "Rename one, leave it out (data.qids), or choose a results_dir on a file system that tells case apart."
        )


def ignores_case(folder: Path) -> bool:
    """Whether the file system of `folder`, which must exist, takes names that differ in case only for one."""
    with tempfile.NamedTemporaryFile(prefix=".case", dir=folder) as file:
        path = Path(file.name)
        return path.with_name(path.name.upper()).exists()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value's canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file, then move it to `path`: readers see the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with LF line ends."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, keys in the order given; NaN is refused, for JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON value a line; NaN is refused."""

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")

    write_whole(path, write)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines, floats exactly as written."""
    try:
        with path.open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is missing, truncated or not JSON lines ({error}).") from None


def write_csv(path: Path, table: Any) -> None:
    """Write a pandas table; floats in their shortest exact form, so equal numbers are equal bytes."""
    write_whole(path, lambda temporary: table.to_csv(temporary, index=False, lineterminator="\n"))


def write_torch(path: Path, value: Any) -> None:
    """Write tensors and plain values with `torch.save`; equal values are equal bytes."""
    import torch

    # Into memory first: the archive would hold the name of a temporary file.
    buffer = io.BytesIO()
    torch.save(value, buffer)
    write_whole(path, lambda temporary: temporary.write_bytes(buffer.getvalue()))


def write_npz(path: Path, **arrays: Any) -> None:
    """Write named NumPy arrays, compressed."""
    import numpy as np

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    write_whole(path, write)


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        ArtifactError: the file is missing, truncated or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing.") from None
    except (ValueError, OSError) as error:
        raise ArtifactError(f"{path} is truncated or is not JSON ({error}).") from None


def read_torch(path: Path) -> Any:
    """Read a `torch.save` file with `weights_only=True`.

    Raises:
        ArtifactError: the file is missing, truncated, or holds more than tensors and plain values.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing.") from None
    except Exception as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"{path} is truncated or is not a tensor file ({first_line}).") from None


def hash_outputs(folder: Path, names: list[str]) -> dict[str, str]:
    """{relative name: SHA-256} of files in `folder`."""
    return {name: sha256_of(folder / name) for name in names}


def verify_outputs(folder: Path, hashes: dict[str, str], made_by: str) -> None:
    """Refuse files that are not the ones their metadata names.

    Raises:
        ArtifactError: a file is missing or its SHA-256 differs; names both hashes.
    """
    for name, recorded in hashes.items():
        path = folder / name
        if not path.exists():
            raise ArtifactError(
                f"{path} is missing, though {made_by} wrote it. Run {made_by} again with overwrite=true."
            )
        found = sha256_of(path)
        if found != recorded:
            raise ArtifactError(
                f"{path} is not the file {made_by} wrote: recorded SHA-256 {recorded}, found {found}. "
                f"Artifacts of two runs are mixed, or the file was changed; run {made_by} again with overwrite=true."
            )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second process of this machine out of `folder` while this one writes there; the second one waits.

    Another machine that shares the folder is not kept out, for locks are unreliable on network file systems: it writes
    the same files, each of them whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f".lock-{safe_name(platform.node())}")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("Another process is at work in %s; waiting for it.", folder)
        lock.acquire()
    except (OSError, NotImplementedError) as error:  # the file system has no locks at all
        log.info("%s cannot be locked (%s); going on without.", folder, error)
    try:
        yield
    finally:
        lock.release()
