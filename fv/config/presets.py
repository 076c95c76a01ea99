"""The ready models and templates: what `conf/model/` and `conf/data/template/` hold, read without Hydra."""

import difflib
import functools
from typing import Any

import yaml

from fv.config.data import TemplateConfig
from fv.config.model import ModelConfig
from fv.errors import ConfigError
from fv.shipped import shipped

CONF = shipped("conf")
"""The folder of settings."""


def model_preset(name: str) -> ModelConfig:
    """The settings of the model `conf/model/<name>.yaml`; what the file does not say has its default.

    Raises:
        ConfigError: there is none of this name; names those that are near, or all.
    """
    return ModelConfig(**_values("model", name))


def model_presets() -> list[str]:
    """Names of the ready models, sorted; `local`, which needs a path, is none of them.

    Example:
        >>> "smollm2" in fv.model_presets()
        True
    """
    return [name for name in _names("model") if name != "local"]


def template_preset(name: str) -> TemplateConfig:
    """The template `conf/data/template/<name>.yaml`; what the file does not say has its default.

    Raises:
        ConfigError: there is none of this name; names those that are near, or all.
    """
    return TemplateConfig(**_values("data/template", name))


def template_presets() -> list[str]:
    """Names of the ready templates, sorted.

    Example:
        >>> fv.template_presets()
        ['arrow', 'bare', 'input_output', 'korean', 'qa']
    """
    return _names("data/template")


def _names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem != "default")


@functools.cache
def _values(group: str, name: str) -> dict[str, Any]:
    """What a file says; not to be changed."""
    names = model_presets() if group == "model" else _names(group)
    if name not in names:
        kind, near = group.rpartition("/")[2], difflib.get_close_matches(name, names)
        told = f"Near it: {', '.join(near)}" if near else f"There are {', '.join(names)}"
        raise ConfigError(f"There is no {kind} called {name!r}. {told}.")
    return yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8"))
