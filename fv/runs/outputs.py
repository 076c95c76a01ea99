"""What a step wrote, by its SHA-256: mixed or changed files are refused (spec section 4)."""

from pathlib import Path

from fv.errors import ArtifactError
from fv.files import sha256_of


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
