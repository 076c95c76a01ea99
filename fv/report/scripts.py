"""Scripts of the page: DataTables from the package itables, and a few lines of our own that use it."""

import base64
import hashlib
import re
from importlib import metadata, resources
from typing import NamedTuple

from fv.errors import FvError


class Script(NamedTuple):
    """Inline JavaScript module of the page.

    Attributes:
        text: JavaScript that is safe between script tags.
        sha256: its hash in base64; the page's security policy allows only scripts with such a hash.
    """

    text: str
    sha256: str


def scripts() -> list[Script]:
    """Scripts in the order they run: DataTables 2 with jQuery, including their licence notices, then the page's own.

    Raises:
        FvError: the installed itables contains DataTables in an unknown form.
    """
    bundle = resources.files("itables").joinpath("html", "dt_bundle.js").read_text(encoding="utf-8")
    own = resources.files("fv.report").joinpath("static", "page.js").read_text(encoding="utf-8")
    return [_script(_with_global(bundle)), _script(own)]


def licence() -> str:
    """Name, version and licence of the package that contains DataTables."""
    found = metadata.distribution("itables")
    text = found.read_text("licenses/LICENSE") or found.metadata["License"]
    return f"itables {found.version}\n\n{text.strip()}"


def _with_global(bundle: str) -> str:
    """Replace the bundle's exports by a global `DataTable`, since an inline module cannot export."""
    inside, n_found = re.subn(
        r"export\s*\{[^}]*?([\w$]+) as default[^}]*\};?", lambda match: f"window.DataTable={match[1]};", bundle
    )
    if n_found != 1:
        raise FvError(
            f"itables {metadata.version('itables')} contains DataTables in an unknown form; install another version."
        )
    return inside


def _script(text: str) -> Script:
    # As the HTML standard advises, since the HTML parser would interpret these characters inside a script.
    text = re.sub(r"<(?=!--|/?script)", r"\\x3C", text.strip(), flags=re.IGNORECASE)
    return Script(text, base64.b64encode(hashlib.sha256(text.encode()).digest()).decode())
