"""Imports between the project's modules, read from the code without running it, and the graph of these imports.

An import is one of: an import statement, relative or not, also in functions and under `if TYPE_CHECKING`; a string that
is the dotted path of a module or of a name in it ("fv.steps.step6", "fv.x:name", the start of an f-string);
`import_module(".x", ...)`; and `_target_` in `conf/`. Docstrings do not count.
"""

import ast
import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("fv", "entrypoints")
HYDRA = "hydra"
DOTTED = re.compile(rf"({'|'.join(PACKAGES)})\.[\w.]*(:\w+)?")
TARGET = re.compile(r"\b_target_:\s*[\"']?([\w.]+)")

Graph = Mapping[str, frozenset[str]]
"""{node: the nodes that it imports}"""


class Module(NamedTuple):
    """A file of the project: its dotted name, its path from the root, and its code."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The package that its relative imports start from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


class Import(NamedTuple):
    """One import: module names of both ends, the file from the root, the line from 1, and its text."""

    importer: str
    imported: str
    file: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file.as_posix()}:{self.line}: {self.importer} imports {self.imported}: {self.text}"


def read_modules(root: Path) -> dict[str, Module]:
    """Read the files of the project's packages under `root`: {module name: module}."""
    modules = {}
    for path in sorted(file for package in PACKAGES for file in (root / package).rglob("*.py")):
        short, text = path.relative_to(root), path.read_text(encoding="utf-8")
        name = ".".join(short.with_suffix("").parts).removesuffix(".__init__")
        modules[name] = Module(name, short, text, ast.parse(text))
    return modules


def read_imports(root: Path) -> list[Import]:
    """Read all imports of the project's modules and of hydra, by file and line. Files of `conf/` import as `conf.…`."""
    modules = read_modules(root)
    found = []
    for module in modules.values():
        lines = module.text.splitlines()
        named = {(line, module_in(target, modules)) for line, _, target in imported_names(module)}
        named |= {(line, _module_of_string(text, modules)) for line, text in _strings(module)}
        for number, imported in sorted((line, name) for line, name in named if name and name != module.name):
            found.append(Import(module.name, imported, module.path, number, lines[number - 1].strip()))
    for path in sorted((root / "conf").rglob("*.yaml")):
        short = path.relative_to(root)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            target = TARGET.search(line)
            if target and (aim := module_in(target[1], modules)):
                found.append(Import(".".join(short.with_suffix("").parts), aim, short, number, line.strip()))
    return found


def module_in(path: str, modules: Collection[str]) -> str | None:
    """The longest module name that a dotted path starts with; `hydra` for every path in hydra."""
    if path.split(".")[0] == HYDRA:
        return HYDRA
    while path and path not in modules:
        path = path.rpartition(".")[0]
    return path or None


def imported_names(module: Module) -> Iterator[tuple[int, str, str]]:
    """Iterate over (line, local name, dotted path) of all names in a module's import statements."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.asname or alias.name, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), module.package)
            for alias in node.names:
                yield node.lineno, alias.asname or alias.name, f"{base}.{alias.name}"


def _strings(module: Module) -> Iterator[tuple[int, str]]:
    """Iterate over (line, text) of all strings but docstrings; relative paths in `import_module` become absolute."""
    nodes = list(ast.walk(module.tree))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            name, *package = [str(each.value) if isinstance(each, ast.Constant) else module.package for each in given]
            if name.startswith("."):
                yield node.lineno, resolve_name(name, *package or [module.package])


def _module_of_string(text: str, modules: Collection[str]) -> str | None:
    if not DOTTED.fullmatch(text):
        return None
    found = module_in(text.partition(":")[0].removesuffix("."), modules)
    # "fv.json" names a file; "fv." starts the name of any module.
    return None if found in PACKAGES and not text.endswith(".") else found


def graph_of(found: Iterable[Import], modules: Iterable[str], node_of: Callable[[str], str] = str) -> Graph:
    """Make the graph of imports between nodes; `node_of` gives the node of a module, for example its room."""
    graph: dict[str, set[str]] = {node_of(name): set() for name in modules}
    for each in found:
        own, other = node_of(each.importer), node_of(each.imported)
        if own != other and own in graph and other in graph:
            graph[own].add(other)
    return {node: frozenset(others) for node, others in graph.items()}


def reach(graph: Graph) -> Graph:
    """Compute {node: all nodes that it imports, directly or through others}; a node in a circle reaches itself."""
    found = {}
    for node in graph:
        seen: set[str] = set()
        ahead = list(graph[node])
        while ahead:
            if (nearest := ahead.pop()) not in seen:
                seen.add(nearest)
                ahead += graph[nearest]
        found[node] = frozenset(seen)
    return found


def floors(graph: Graph) -> dict[str, int]:
    """Compute {node: its floor, from 1}, one above the highest floor that it imports. A circle shares one floor."""
    reached = reach(graph)

    @functools.cache
    def floor(node: str) -> int:
        return 1 + max((floor(other) for other in reached[node] if node not in reached[other]), default=0)

    return {node: floor(node) for node in graph}


def reduced(graph: Graph) -> Graph:
    """Remove the arrows of a graph whose ends are also connected by a longer path."""
    reached, at = reach(graph), floors(graph)

    def spared(node: str, other: str) -> bool:
        return any(at[node] > at[via] > at[other] and other in reached[via] for via in graph[node])

    return {node: frozenset(other for other in graph[node] if not spared(node, other)) for node in graph}
