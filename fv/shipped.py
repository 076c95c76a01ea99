"""Where the files are that ship with the library: beside it in a clone, inside it once it is installed."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
IN_CLONE = not (_PACKAGE / "conf").exists()
"""Whether this is a clone, where `conf/` and `datasets/` are at the top."""


def shipped(name: str) -> Path:
    """A file or folder by its path in a clone, such as `conf` or `datasets/relation/default.csv`; it need not exist."""
    return (_PACKAGE.parent if IN_CLONE else _PACKAGE) / name
