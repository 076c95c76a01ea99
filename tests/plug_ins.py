"""Installed packages for a test: folders of modules with the metadata that an installer leaves, put on the path."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest


def install(
    monkeypatch: pytest.MonkeyPatch, folder: Path, package: str, modules: Mapping[str, str], group: str, names: str
) -> None:
    """Install a package, for as long as the test's `monkeypatch` lasts.

    Args:
        monkeypatch: the test's.
        folder: where to; put on the path.
        package: its name.
        modules: {module: code}.
        group: the group of its entry points.
        names: the lines of that group.
    """
    (folder / package).mkdir(parents=True)
    for name, code in {"__init__": "", **modules}.items():
        (folder / package / f"{name}.py").write_text(code, encoding="utf-8")
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{names}", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    for name in ("", *(f".{module}" for module in modules)):
        monkeypatch.delitem(sys.modules, f"{package}{name}", raising=False)
