"""Files that ship with the library: they are beside it in a clone, inside it once it is installed."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
IN_CLONE = not (_PACKAGE / "conf").exists()
"""True in a clone, where `conf/` and `datasets/` are at the top."""


def shipped(name: str) -> Path:
    """The place of a file or folder, such as `conf` or `datasets/relation/default.csv`; it need not exist."""
    return (_PACKAGE.parent if IN_CLONE else _PACKAGE) / name
