"""Public names: each room's are in its `__all__`, and the rooms that look at settings and data need no torch."""

import importlib
import pkgutil
import subprocess
import sys

import pytest
from commands import ROOT

import fv

ROOMS = [
    *("analyses", "config", "data", "evaluation", "heads", "interventions"),
    *("models", "pricing", "statistics", "vectors"),
]


@pytest.mark.parametrize("room", ROOMS)
def test_each_public_name_is_there_and_was_made_in_its_room(room: str) -> None:
    package = importlib.import_module(f"fv.{room}")
    assert len(set(package.__all__)) == len(package.__all__) > 0
    for name in package.__all__:
        made_in = getattr(getattr(package, name), "__module__", None)
        assert made_in is None or made_in.startswith((f"fv.{room}", "types")), name


@pytest.mark.parametrize("room", ROOMS)
def test_no_public_name_hides_a_module(room: str) -> None:
    package = importlib.import_module(f"fv.{room}")
    assert not {*package.__all__} & {module.name for module in pkgutil.iter_modules(package.__path__)}


@pytest.mark.parametrize(
    "name", ["fv", "fv.analyses", "fv.config", "fv.data", "fv.data.checks", "fv.models", "fv.steps.listing"]
)
def test_looking_at_settings_and_data_imports_no_torch(name: str) -> None:
    code = f"import sys, {name}; print({name}.__file__); sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(fv.__path__[0]))
