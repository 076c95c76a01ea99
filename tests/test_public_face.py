"""`import fv` is light, and shows the names of its stub."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import fv

STUB = Path(fv.__file__).with_suffix(".pyi")
LOOK = """
import json, sys
import fv
light = [name for name in ("torch", "transformers", "pandas", "matplotlib") if name in sys.modules]
trials = fv.sample_trials({"r": [(f"w{i}", f"a{i}") for i in range(20)]}, json and fv.load_model("smollm2",
    selfcheck=False), demos=1, fit=1, held_out=2)
hydra = [name for name in sys.modules if "hydra" in name]
print(json.dumps([light, sorted(dir(fv)), "matplotlib" in sys.modules, hydra]))
"""


@pytest.mark.slow
def test_importing_loads_nothing_heavy_and_computing_no_matplotlib() -> None:
    found = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    light, names, has_matplotlib, hydra = json.loads(found.stdout)
    assert light == [] and not has_matplotlib and hydra == []
    assert names == sorted(fv.__all__)


def test_the_stub_tells_type_checkers_what_python_finds() -> None:
    imports = [node for node in ast.parse(STUB.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    told = {str(alias.asname): (f"fv.{node.module}", alias.name) for node in imports for alias in node.names}
    for name, (module, own) in told.items():
        assert getattr(fv, name) is getattr(importlib.import_module(module), own)
