"""Climbs of settings: the calls that pass a function's settings on, which a reader of the code has to follow."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from imports import Module, imported_names, module_in


class Function(NamedTuple):
    """A function or method: its module, its class or None, and its code."""

    module: str
    owner: ast.ClassDef | None
    code: ast.FunctionDef


class Code:
    """The functions and classes of a project, found by their dotted paths and by calls."""

    def __init__(self, modules: Mapping[str, Module]) -> None:
        self.modules = modules
        self.names = {name: {local: path for _, local, path in imported_names(m)} for name, m in modules.items()}
        self.functions: dict[str, Function] = {}
        self.classes: dict[str, str] = {}
        """{dotted path of a class: its module}"""
        self.methods: dict[str, list[str]] = defaultdict(list)
        """{name of a method: the dotted paths of all methods of that name}"""
        for name, module in modules.items():
            for node in module.tree.body:
                if isinstance(node, ast.FunctionDef):
                    self.functions[f"{name}.{node.name}"] = Function(name, None, node)
                elif isinstance(node, ast.ClassDef):
                    self.classes[f"{name}.{node.name}"] = name
                    for method in (each for each in node.body if isinstance(each, ast.FunctionDef)):
                        path = f"{name}.{node.name}.{method.name}"
                        self.functions[path] = Function(name, node, method)
                        self.methods[method.name].append(path)

    def find(self, path: str) -> str | None:
        """Find the definition of the function or class at a dotted path, through re-exports; None if there is none."""
        if path in self.functions or path in self.classes:
            return path
        module = module_in(path, self.modules)
        first, _, rest = path.removeprefix(f"{module}.").partition(".")
        if module is None or path == module or first not in self.names.get(module, ()):
            return None
        return self.find(".".join(filter(None, [self.names[module][first], rest])))

    def called(self, call: ast.Call, by: Function) -> str | None:
        """Find the function or class that a call calls; a method of an object is found if its name is unique."""
        written = ast.unparse(call.func)
        if by.owner and written.startswith("self."):
            written = written.replace("self", by.owner.name, 1)
        only = self.methods.get(written.rpartition(".")[2], []) if "." in written else []
        return self.find(f"{by.module}.{written}") or self.find(written) or (only[0] if len(only) == 1 else None)


def settings_calls(modules: Mapping[str, Module], start: str) -> list[tuple[str, str]]:
    """Find the calls that pass settings on, from a function down.

    Settings are parameters and fields annotated `Config` or `…Config`, and any `name = config.group`. A call passes
    them on if they, or a value in them (`config`, `config.score.k`), are an argument or the object of a method. The
    walk enters every function called in this way once, and all methods of a class called in this way, because its
    objects may keep the settings (`self.config`).

    A *climb* is a call whose two ends are on different floors: a reader who follows the settings there must come back.

    Returns:
        (module of the caller, module of the called function) of each call.

    Raises:
        KeyError: there is no function `start`.
    """
    code = Code(modules)
    found, ahead, seen = [], [start], {start}
    while ahead:
        function = code.functions[ahead.pop()]
        for call in _passing_on(function):
            if (path := code.called(call, function)) is None:
                continue
            found.append((function.module, code.classes.get(path) or code.functions[path].module))
            entered = {each for each in code.functions if each == path or each.startswith(f"{path}.")} - seen
            seen |= entered
            ahead += entered
    return found


def _passing_on(function: Function) -> Iterator[ast.Call]:
    settings = _settings_in(function)
    for call in (node for node in ast.walk(function.code) if isinstance(node, ast.Call)):
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        given += [call.func.value] if isinstance(call.func, ast.Attribute) else []
        if any(_is_of(value, settings) for value in given):
            yield call


def _settings_in(function: Function) -> set[str]:
    """The expressions that hold settings in a function, as they are written there: `config`, `self.stats`."""
    owner, code = function.owner, function.code
    annotated = [(node.arg, node.annotation) for node in ast.walk(code) if isinstance(node, ast.arg)]
    if owner:
        fields = [node for node in owner.body if isinstance(node, ast.AnnAssign)]
        annotated += [(f"self.{ast.unparse(field.target)}", field.annotation) for field in fields]
    found = {name for name, note in annotated if note and re.search(r"Config\b", ast.unparse(note))}
    found |= {"self"} if owner and owner.name.endswith("Config") else set()
    for node in (each for each in ast.walk(code) if isinstance(each, ast.Assign)):
        ends = [end.elts if isinstance(end, ast.Tuple) else [end] for end in (node.targets[0], node.value)]
        pairs = zip(*ends, strict=False)
        found |= {ast.unparse(name) for name, value in pairs if ast.unparse(value).rpartition(".")[0] in found}
    return found


def _is_of(value: ast.expr, settings: set[str]) -> bool:
    """True if an expression is settings or a value in them."""
    inner = value.value if isinstance(value, ast.Starred) else value
    while isinstance(inner, ast.Attribute) and ast.unparse(inner) not in settings:
        inner = inner.value
    return ast.unparse(inner) in settings
