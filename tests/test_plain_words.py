"""Docstrings begin with their noun or verb, and texts are free of refused phrases: the lists are in CONTRIBUTING.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import ROOT

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FOLDERS = ("fv", "entrypoints", "scripts", "benchmarks")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
TEXTS = sorted(
    path for folder in ("fv", "docs") for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")
)


def listed(start: str) -> list[str]:
    """The words that the guide lists after `start`, up to a full stop."""
    (words,) = re.findall(rf"^{re.escape(start)} (.+?)\.$", GUIDE, re.MULTILINE)
    return words.split(", ")


REFUSED_STARTS = listed("No docstring begins with:")
REFUSED_PHRASES = listed("No text in `fv/` and `docs/` has:")


def docstrings(code: str) -> Iterator[tuple[int, str]]:
    """(line, text) of all docstrings of modules, classes, functions and attributes."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for each in node.body:
                value = each.value if isinstance(each, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield each.lineno, value.value


def refused_starts(code: str) -> list[int]:
    """The lines of docstrings that begin with a refused word."""
    start = re.compile(rf"\s*({'|'.join(REFUSED_STARTS)})\b")
    return [line for line, text in docstrings(code) if start.match(text)]


def phrases_in(text: str) -> list[str]:
    """The refused phrases of a text, also across line breaks."""
    plain = " ".join(text.lower().split())
    return [phrase for phrase in REFUSED_PHRASES if phrase in plain]


def test_no_docstring_begins_with_a_refused_word() -> None:
    read = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in MODULES}
    assert sum(len([*docstrings(code)]) for code in read.values()) > 2000
    assert not [f"{name}:{line}" for name, code in read.items() for line in refused_starts(code)]


@pytest.mark.parametrize(
    "code",
    [
        '"""What a module holds."""',
        'class A:\n    """Where it is."""',
        'class A:\n    size: int = 1\n    """How many there are."""',
        'def f():\n    """\n    Whether it holds.\n    """',
        'async def f():\n    """Of one relation, or of all."""',
        'NAMES = ()\n"""The same as text."""',
        'class A:\n    class B:\n        def f(self):\n            """Who asks."""',
    ],
)
def test_a_refused_word_is_found_at_the_start_of_any_docstring(code: str) -> None:
    assert len(refused_starts(code)) == 1
    assert not refused_starts(code.replace('"""', '"""True if: ', 1))


def test_a_word_that_only_begins_alike_is_accepted() -> None:
    assert not refused_starts('"""Offsets of tokens."""\n\nSAME = 1\n"""The samefile of paths."""')


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_text_has_a_refused_phrase(path: Path) -> None:
    assert not phrases_in(path.read_text(encoding="utf-8"))


def test_a_refused_phrase_is_found_across_a_line_break() -> None:
    assert phrases_in("the stream behind\n    block 3") == ["behind block"]


def test_the_words_of_the_architecture_page_name_files_and_classes_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([^`\n]+)`", page.partition("## Words")[2].partition("## A condition")[0]))
    files = {name for name in named if re.fullmatch(r"(fv|entrypoints|tests|scripts)/[\w/]+\.py", name)}
    classes = {name for name in named if re.fullmatch(r"[A-Z][a-z]+\w*", name)}
    assert len(files) > 20 and len(classes) > 30
    code = "\n".join(path.read_text(encoding="utf-8") for path in MODULES)
    assert not sorted(name for name in files if not (ROOT / name).is_file())
    assert not sorted(name for name in classes if not re.search(rf"^(class )?{name}\b( =|[(:])", code, re.MULTILINE))
