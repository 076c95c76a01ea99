"""The examples in the docstrings of public names run, and every public name has one."""

import contextlib
import doctest
import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import TinyRunIn

import fv
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.steps.pipeline import run_pipeline

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
CLASSES = [name for name in fv.__all__ if inspect.isclass(getattr(fv, name))]


@pytest.fixture(scope="module")
def names(smollm2: LanguageModel) -> dict[str, Any]:
    """What an example may take for granted; `folder` is made for each."""
    pairs = fv.read_relations(names=["antonym"])["antonym"].pairs[:40]
    trials = fv.sample_trials({"antonym": pairs}, smollm2, demos=2, fit=2, held_out=4)
    effects = fv.indirect_effects(smollm2, trials, layers=[11, 12])
    vector = fv.function_vector(smollm2, effects["antonym"], k=10)
    result = fv.evaluate(smollm2, vector, trials, layers=[11, 17], alphas=[1, 2], controls=[], n_unrelated=0)
    return {
        "fv": fv,
        "torch": torch,
        "lm": smollm2,
        "pairs": pairs,
        "trials": trials,
        "effects": effects,
        "vector": vector,
        "result": result,
        "model": smollm2.model,
        "tokenizer": smollm2.tokenizer,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A working directory that holds a finished run, `results_fv/relation/demo`."""
    with contextlib.chdir(tmp_path):
        yield tmp_path


@pytest.fixture(scope="module")
def demo_run(tiny_run_in: TinyRunIn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_run_in(tmp_path_factory.mktemp("demo"))(
        {
            "model.name": "local",
            "data.n_trials_per_q": 2,
            "data.n_demos": 2,
            "data.n_eval_trials_per_q": 3,
            "score.k": 3,
            "injection.fv": "all_qids",
            "injection.alpha": [1, 2],
            "eval_scope.mode": "all_qids",
            "analysis.cost.n_texts": 0,
        },
        run_id="demo",
    )
    run_pipeline(config)
    return RunPaths.of(config).root


@pytest.mark.parametrize("name", fv.__all__)
def test_every_example_of_a_public_name_gives_what_it_says(
    name: str, names: dict[str, Any], demo_run: Path, folder: Path
) -> None:
    shutil.copytree(demo_run, folder / "results_fv" / "relation" / "demo")
    found = doctest.DocTestFinder(exclude_empty=True).find(getattr(fv, name), name, globs={**names, "folder": folder})
    examples = [one for one in found if one.examples]
    assert examples, f"{name} has no example."
    for one in examples:
        assert not any(doctest.SKIP in example.options for example in one.examples)
        lines: list[str] = []
        outcome = doctest.DocTestRunner(optionflags=FLAGS).run(one, out=lines.append, clear_globs=False)
        assert not outcome.failed, "".join(lines)


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_method_is_described(name: str) -> None:
    for member, value in inspect.getmembers(getattr(fv, name)):
        is_own = isinstance(value, property) or str(getattr(value, "__module__", None)).startswith("fv")
        if is_own and not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
            assert inspect.getdoc(value), f"{name}.{member} has no docstring."
