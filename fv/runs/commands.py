"""Command lines, as a user types them."""

from fv.shipped import IN_CLONE


def command(name: str, *words: str) -> str:
    """The command line of a command: `python -m entrypoints.<name>` in a clone, `fv-<name>` after installation."""
    return " ".join((f"python -m entrypoints.{name}" if IN_CLONE else f"fv-{name}", *words))
