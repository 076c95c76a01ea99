"""Standard output that takes any text: a relation's name may hold what a terminal's encoding lacks."""

import io
import sys


def take_any_text() -> None:
    """Let what the encoding of standard output lacks be printed as an escape, such as `\\u2192`: no command fails."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
