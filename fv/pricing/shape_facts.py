"""Ready shapes: configurations of models for prices without their files, `fv/pricing/shapes/<name>.yaml`."""

from pathlib import Path

import yaml

from fv.errors import ConfigError
from fv.files import JsonObject

SHAPES = Path(__file__).parent / "shapes"


def ready_shapes() -> list[str]:
    """Names of the ready shapes, sorted.

    Example:
        >>> "llama31_70b" in ready_shapes()
        True
    """
    return sorted(path.stem for path in SHAPES.glob("*.yaml"))


def facts_of(name: str, called: str = "name") -> JsonObject:
    """Contents of the model's `config.json` that a price depends on, for a ready shape.

    Args:
        name: name of the shape.
        called: name of the argument `name` in error messages.

    Raises:
        ConfigError: there is no ready shape of this name.
    """
    if name not in (names := ready_shapes()):
        raise ConfigError(f"{called}={name!r} is not a ready shape; there are {', '.join(names)}.")
    return yaml.safe_load((SHAPES / f"{name}.yaml").read_text(encoding="utf-8"))
