"""Files that are written whole or not at all, and read back safely (spec section 4)."""

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fv.errors import ArtifactError


def safe_name(name: str) -> str:
    """A file-name form of `name`: percent-encoded, so `urllib.parse.unquote` gives the name back.

    Two names never share a file, unless they differ in case only and the file system ignores it
    (`refuse_one_file`). A form too long for a file name is cut and ends in the name's SHA-256; the files of such a
    relation hold the whole name inside.
    """
    encoded = quote(name, safe="").replace("~", "%7E")
    encoded = "%2E" + encoded[1:] if encoded.startswith(".") else encoded
    return encoded if len(encoded) <= 180 else f"{encoded[:100]}~{hashlib.sha256(name.encode()).hexdigest()}"


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
