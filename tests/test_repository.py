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


def targets(*texts: str) -> list[str]:
    """The targets of the `make` commands in texts, one command a line."""
    lines = (line.strip() for text in texts for line in text.splitlines())
    return [name for line in lines if line.startswith("make ") for name in line.split()[1:]]


def of_jobs() -> dict[str, list[str]]:
    """{job of the workflow: its targets}."""
    jobs = read(".github/workflows/ci.yml")["jobs"]
    return {name: targets(*(step.get("run", "") for step in job["steps"])) for name, job in jobs.items()}


def of_a_local_run() -> list[str]:
    return targets((ROOT / ".ci" / "run").read_text(encoding="utf-8"))


def test_the_workflow_runs_what_a_local_run_does_but_for_the_cuda_device() -> None:
    assert [name for names in of_jobs().values() for name in names] == [n for n in of_a_local_run() if n != "test-gpu"]


def test_every_target_that_is_run_is_one_of_the_makefile() -> None:
    rules = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {*of_a_local_run()} <= {*rules}


def test_the_commit_hook_checks_every_file_by_a_target_that_the_workflow_runs_too() -> None:
    (repo,) = read(".pre-commit-config.yaml")["repos"]
    (hook,) = repo["hooks"]
    assert targets(hook["entry"]) and {*targets(hook["entry"])} <= {*of_jobs()["lint"]}
    assert (hook["pass_filenames"], hook["always_run"]) == ("false", "true")


def test_the_workflow_tests_the_oldest_and_the_newest_python_that_the_package_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    tested = read(".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert tested == [named[0], named[-1]] and project["requires-python"] == f">={named[0]}"


def test_the_workflow_gives_pip_what_the_makefile_takes() -> None:
    (name,) = read(".github/workflows/ci.yml")["env"]
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
