"""Code that a model's folder brings along is never run."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
from conftest import load_local

from fv.errors import FvError

CODE = "from pathlib import Path\nPath({marker!r}).touch()\nclass Own: pass\n"


@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json"])
def test_code_in_a_models_folder_is_not_run(tiny_llama_folder: Path, tmp_path: Path, where: str) -> None:
    folder = shutil.copytree(tiny_llama_folder, tmp_path / "model")
    (folder / "own.py").write_text(CODE.format(marker=str(tmp_path / "ran")), encoding="utf-8")
    own = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own", "AutoTokenizer": ["own.Own", None]}
    about = json.loads((folder / where).read_text(encoding="utf-8"))
    about |= {"auto_map": own, **({"model_type": "own"} if where == "config.json" else {"tokenizer_class": "Own"})}
    (folder / where).write_text(json.dumps(about), encoding="utf-8")
    with contextlib.suppress(FvError):
        load_local(folder)
    assert not (tmp_path / "ran").exists()
    compile((folder / "own.py").read_text(encoding="utf-8"), "own.py", "exec")
    exec((folder / "own.py").read_text(encoding="utf-8"), {})
    assert (tmp_path / "ran").exists()  # it would have
