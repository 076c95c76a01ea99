"""How the commands are called."""

from fv.shipped import IN_CLONE


def command(name: str, *words: str) -> str:
    """What one types for a command: `python -m entrypoints.<name>` in a clone, `fv-<name>` where it is installed."""
    return " ".join((f"python -m entrypoints.{name}" if IN_CLONE else f"fv-{name}", *words))
