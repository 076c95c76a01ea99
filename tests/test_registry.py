"""What plugs in: one class a module, one an entry point; what fails is named and breaks nothing."""

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from plug_ins import install

from fv.errors import PluginError
from fv.registry import plugged_in

GROUP = "function_vectors.tests"
CLASS = "from base_of_tests import Base\nclass Named(Base): pass\n"


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type:
    """The class that the others are derived from; the package `own_of_tests` has the modules b and a of one each."""
    folder = tmp_path / "own"
    own = {"a": CLASS, "b": CLASS + "from own_of_tests.a import Named as NamedOfAnother\n"}
    install(monkeypatch, folder, "own_of_tests", own, "nothing", "")
    (folder / "base_of_tests.py").write_text("class Base: pass\n", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "base_of_tests", raising=False)
    return importlib.import_module("base_of_tests").Base


def add(monkeypatch: pytest.MonkeyPatch, folder: Path, package: str, names: str, **modules: str) -> None:
    install(monkeypatch, folder / package, package, modules, GROUP, names)


def found(base: type[Any]) -> dict[str, str]:
    return {name: of.__module__ for name, of in plugged_in(base, "own_of_tests", GROUP).items()}


def test_each_module_gives_the_class_that_it_defines_under_its_name(base: type) -> None:
    assert found(base) == {"a": "own_of_tests.a", "b": "own_of_tests.b"}


def test_an_installed_package_adds_a_class_under_the_name_of_its_entry_point(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base: type
) -> None:
    add(monkeypatch, tmp_path, "more_of_tests", "mine = more_of_tests.x:Named\n", x=CLASS)
    assert found(base) == {"a": "own_of_tests.a", "b": "own_of_tests.b", "mine": "more_of_tests.x"}


@pytest.mark.parametrize(
    ("names", "code", "told"),
    [
        ("mine = more_of_tests.gone:Named", CLASS, "ModuleNotFoundError: No module named 'more_of_tests.gone'"),
        ("mine = more_of_tests.x:Gone", CLASS, "AttributeError: .*Gone"),
        ("mine = more_of_tests.x:Named", "1 / 0\n", "ZeroDivisionError: division by zero"),
        ("mine = more_of_tests.x:Named", "class Named(\n", "SyntaxError: "),
        ("mine = more_of_tests.x:Named", "class Named: pass\n", r"TypeError: it is not .* base_of_tests\.Base"),
        ("mine = more_of_tests.x:Named", "Named = 3\n", r"TypeError: it is not .* base_of_tests\.Base"),
        ("my-own.name = more_of_tests.x:Named", CLASS, "ValueError: its name must be letters, digits and _"),
    ],
)
def test_one_that_cannot_be_taken_is_named_in_a_warning_and_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    base: type,
    caplog: pytest.LogCaptureFixture,
    names: str,
    code: str,
    told: str,
) -> None:
    add(monkeypatch, tmp_path, "more_of_tests", f"{names}\nwell = more_of_tests.y:Named\n", x=code, y=CLASS)
    assert list(found(base)) == ["a", "b", "well"]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith(f"The plug-in {names} ({GROUP}) is left out. ")
    assert re.search(told, record.getMessage())


@pytest.mark.parametrize("name", ["a", "mine"])
def test_two_of_one_name_are_refused_by_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base: type, name: str
) -> None:
    add(monkeypatch, tmp_path, "more_of_tests", f"{name} = more_of_tests.x:Named\n", x=CLASS)
    add(monkeypatch, tmp_path, "others_of_tests", "mine = others_of_tests.x:Named\n", x=CLASS)
    with pytest.raises(
        PluginError, match=rf"^{name} of {GROUP} is both \w+\.\w+:Named and \w+\.x:Named\. .*another name"
    ):
        found(base)


def test_one_class_that_two_packages_name_alike_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base: type
) -> None:
    add(monkeypatch, tmp_path, "more_of_tests", "mine = more_of_tests.x:Named\n", x=CLASS)
    add(monkeypatch, tmp_path, "others_of_tests", "mine = more_of_tests.x:Named\n")
    assert list(found(base)) == ["a", "b", "mine"]
