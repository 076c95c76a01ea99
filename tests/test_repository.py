"""What surrounds the code says what the code's own files say: the commit hook, the workflow, what Git ignores."""

import pkgutil
import re
import subprocess
import tomllib
from typing import Any

import pytest
import yaml
from commands import ROOT


def read(name: str) -> dict[str, Any]:
    # BaseLoader: plain YAML would read the key `on` as true and the version 3.10 as 3.1.
    return yaml.load((ROOT / name).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


def test_the_commit_hook_is_make_lint_on_every_file() -> None:
    (repo,) = read(".pre-commit-config.yaml")["repos"]
    (hook,) = repo["hooks"]
    assert (repo["repo"], hook["language"], hook["entry"]) == ("local", "system", "make lint")
    assert (hook["pass_filenames"], hook["always_run"]) == ("false", "true")


def test_the_workflow_runs_once_a_pull_request_and_on_main() -> None:
    assert read(".github/workflows/ci.yml")["on"] == {"pull_request": "", "push": {"branches": ["main"]}}


def test_the_workflow_tests_the_oldest_python_that_is_allowed() -> None:
    allowed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    matrix = read(".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert f">={matrix[0]}" == allowed and len(matrix) == 2


def test_the_workflow_gives_pip_what_the_makefile_takes() -> None:
    (name,) = read(".github/workflows/ci.yml")["jobs"]["test"]["env"]
    assert re.search(rf"install .*\$\({name}\)", (ROOT / "Makefile").read_text(encoding="utf-8"))


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone")
def test_git_ignores_results_but_not_what_explains_them() -> None:
    names = ["results_fv/README.md", "results_fv/relation/r/artifacts/top_heads.json", "results_fv/bench.json"]
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", *names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == names[1:]


def test_every_name_of_the_library_in_the_docs_exists() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    named = {name for page in pages for name in re.findall(r"`(fv(?:\.\w+)+)`", page.read_text(encoding="utf-8"))}
    assert len(named) > 20
    for name in sorted(named):
        assert pkgutil.resolve_name(name) is not None
