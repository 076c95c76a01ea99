"""The page's scripts: DataTables, as the package itables brings it, and the few lines that use it."""

import base64
import hashlib
import re
from importlib import metadata, resources
from typing import NamedTuple

from fv.errors import FvError


class Script(NamedTuple):
    """An inline module of the page.

    Attributes:
        text: JavaScript that may stand between the tags of a script.
        sha256: by which the page's policy knows it, in base64: no other one runs.
    """

    text: str
    sha256: str


def scripts() -> list[Script]:
    """DataTables 2 with its jQuery, which carry their own notices, and the page's own script, in the order they run.

    Raises:
        FvError: the installed itables has no DataTables in the form that is known.
    """
    bundle = resources.files("itables").joinpath("html", "dt_bundle.js").read_text(encoding="utf-8")
    own = resources.files("fv.report").joinpath("static", "page.js").read_text(encoding="utf-8")
    return [_script(_with_global(bundle)), _script(own)]


def licence() -> str:
    """What the package that brings DataTables is called, its version and its licence."""
    found = metadata.distribution("itables")
    text = found.read_text("licenses/LICENSE") or found.metadata["License"]
    return f"itables {found.version}\n\n{text.strip()}"


def _with_global(bundle: str) -> str:
    """The bundle with a global `DataTable` in place of its exports, for an inline module has none."""
    inside, n_found = re.subn(
        r"export\s*\{[^}]*?([\w$]+) as default[^}]*\};?", lambda match: f"window.DataTable={match[1]};", bundle
    )
    if n_found != 1:
        raise FvError(f"itables {metadata.version('itables')} brings another form of DataTables; install another one.")
    return inside


def _script(text: str) -> Script:
    # As the HTML standard advises: the parser of a page reads these letters before any script does.
    text = re.sub(r"<(?=!--|/?script)", r"\\x3C", text.strip(), flags=re.IGNORECASE)
    return Script(text, base64.b64encode(hashlib.sha256(text.encode()).digest()).decode())
