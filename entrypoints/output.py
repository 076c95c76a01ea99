"""Standard output that takes any text: names of relations may have characters that a terminal's encoding lacks."""

import io
import sys


def take_any_text() -> None:
    """Print characters that the encoding of standard output lacks as escapes, such as `\\u2192`, without an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
