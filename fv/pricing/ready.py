"""Ready shapes: facts of models that are on no disk, `fv/pricing/shapes/<name>.yaml`."""

from pathlib import Path
from typing import Any

import yaml

from fv.errors import ConfigError

SHAPES = Path(__file__).parent / "shapes"


def ready_shapes() -> list[str]:
    """Their names, sorted.

    Example:
        >>> "llama31_70b" in ready_shapes()
        True
    """
    return sorted(path.stem for path in SHAPES.glob("*.yaml"))


def facts_of(name: str, called: str = "name") -> dict[str, Any]:
    """What the `config.json` of a ready shape would say, as far as a price depends on it.

    Args:
        name: of the shape.
        called: what a message calls `name`.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in (names := ready_shapes()):
        raise ConfigError(f"{called}={name!r} is no ready shape; there are {', '.join(names)}.")
    return yaml.safe_load((SHAPES / f"{name}.yaml").read_text(encoding="utf-8"))
