"""Which settings of a class have a text under them, read from its source."""

import ast
import inspect


def explained(settings: type) -> set[str]:
    """The fields that the class itself has, and explains by a text behind each."""
    (code,) = ast.parse(inspect.getsource(settings)).body
    assert isinstance(code, ast.ClassDef)
    return {
        before.target.id
        for before, after in zip(code.body, code.body[1:], strict=False)
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
    }
