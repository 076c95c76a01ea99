"""Files that are written whole or not at all and read back safely; digests; safe file names."""

import contextlib
import functools
import hashlib
import io
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fv.errors import ArtifactError, FvError

if TYPE_CHECKING:
    from torch import Tensor


def safe_name(name: str) -> str:
    """`name` as part of a file name: percent-encoded, so that `urllib.parse.unquote` returns the name.

    Two names never share a file, unless they differ only in case and the file system ignores case
    (`refuse_one_file`). An encoded name that is too long is cut and ends in the name's SHA-256; the files of such a
    relation hold the whole name inside.
    """
    encoded = quote(name, safe="").replace("~", "%7E")
    encoded = "%2E" + encoded[1:] if encoded.startswith(".") else encoded
    return encoded if len(encoded) <= 180 else f"{encoded[:100]}~{hashlib.sha256(name.encode()).hexdigest()}"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


JsonObject = dict[str, Any]
"""A JSON object, written to a file or read from one: {key: JSON value}."""
ABOUT = "about"
"""The key of the JSON value in a safetensors file's metadata."""
_WRITER = ".written-by-"
"""The part of a temporary file's name before the machine and the process that write the file."""


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value's canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors while the contents of `path` are parsed into an `ArtifactError` that names the file.

    Raises:
        ArtifactError: a part is missing, or has another type, shape or range.
    """
    try:
        yield
    except FvError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        told = " ".join(str(error).split())[:200]
        raise ArtifactError(
            f"{path} is damaged, or was not written by this project ({type(error).__name__}: {told})."
        ) from error


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file, then move it to `path`: readers see the old file or the new one, whole.

    Raises:
        OSError: the file cannot be written; names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name[:40]}{_WRITER}{processes_here()}-{os.getpid()}-"
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = str(path)  # a full disk names no file, and the temporary name tells the user nothing
        raise


@functools.cache
def processes_here() -> str:
    """A name for this machine or container, within which process ids are unique.

    Containers and copied machines may share a host name but run other processes.
    """
    told = []
    with contextlib.suppress(OSError):
        told.append(Path("/etc/machine-id").read_text(encoding="utf-8"))
    with contextlib.suppress(OSError):
        told.append(str(Path("/proc/self/ns/pid").readlink()))
    return f"{safe_name(platform.node())}-{digest_of(told)[:8]}"


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files in `folder` and below that killed processes of this machine have left."""
    for path in folder.rglob(f".*{_WRITER}{processes_here()}-*"):
        pid = path.name.rpartition(_WRITER)[2].removeprefix(f"{processes_here()}-").partition("-")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process is another user's
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with LF line endings."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, keys in the given order; NaN is refused, because JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[JsonObject]) -> None:
    """Write one JSON value per line; NaN is refused."""

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")

    write_whole(path, write)


def read_jsonl(path: Path) -> list[JsonObject]:
    """Read JSON lines, floats exactly as written.

    Raises:
        ArtifactError: the file is missing, truncated, or not lines of JSON objects.
    """
    try:
        with path.open(encoding="utf-8") as file:
            rows = [_parsed(line) for line in file]
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is missing, truncated or not JSON lines ({error}).") from None
    if not all(isinstance(row, dict) for row in rows):
        raise ArtifactError(f"{path} holds lines that are not JSON objects.")
    return rows


def write_csv(path: Path, table: Any) -> None:
    """Write a pandas table, floats in their shortest exact form: equal numbers give equal bytes."""
    write_whole(path, lambda temporary: table.to_csv(temporary, index=False, lineterminator="\n"))


def write_torch(path: Path, value: Any) -> None:
    """Write tensors and plain values with `torch.save`: equal values give equal bytes."""
    import torch

    # Into memory first: written directly, the archive would contain the temporary file's name.
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


def _parsed(text: str) -> Any:
    """A JSON value; NaN and infinity are refused: Python reads them, but they are not JSON."""
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        ArtifactError: the file is missing, truncated or not JSON (NaN and infinity are not).
    """
    try:
        return _parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing.") from None
    except (ValueError, OSError, RecursionError) as error:
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


def write_safetensors(path: Path, tensors: Mapping[str, Any], about: Any) -> None:
    """Write named tensors, with a JSON value about them as the file's metadata, whole or not at all."""
    from safetensors.torch import save_file

    metadata = {ABOUT: json.dumps(about, ensure_ascii=False, sort_keys=True)}
    write_whole(path, lambda temporary: save_file(dict(tensors), temporary, metadata=metadata))


def read_safetensors(path: Path, form: str) -> tuple[dict[str, "Tensor"], JsonObject]:
    """Read a file of `write_safetensors`: tensors by name, and the JSON value about them.

    Args:
        path: the file.
        form: the value that `form` must have in the JSON value.

    Raises:
        ArtifactError: the file is missing, truncated, or has another form.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            about = _parsed((file.metadata() or {}).get(ABOUT, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing.") from None
    except Exception as error:  # a damaged file fails in many ways
        raise ArtifactError(f"{path} is truncated or is no safetensors file ({type(error).__name__}).") from None
    if not isinstance(about, dict) or about.get("form") != form:
        raise ArtifactError(f"{path} does not say that it holds a {form.replace('_', ' ')}.")
    return tensors, about
