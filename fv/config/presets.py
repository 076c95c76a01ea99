"""Presets: the ready models and templates in `conf/model/` and `conf/data/template/`, read without Hydra."""

import difflib
import functools

import yaml

from fv.config.data import TemplateConfig
from fv.config.group import Settings
from fv.config.model import ModelConfig
from fv.errors import ConfigError
from fv.shipped import shipped

CONF = shipped("conf")
"""The folder of settings."""


def model_preset(name: str) -> ModelConfig:
    """Read the settings of the model `conf/model/<name>.yaml`; settings that are not in the file have their defaults.

    Raises:
        ConfigError: there is no model of this name; the message lists similar names, or all.
    """
    return ModelConfig(**_values("model", name))


def model_presets() -> list[str]:
    """Names of the ready models, sorted, without `local`, which needs a path.

    Example:
        >>> "smollm2" in fv.model_presets()
        True
    """
    return [name for name in _names("model") if name != "local"]


def template_preset(name: str) -> TemplateConfig:
    """Read the template `conf/data/template/<name>.yaml`; parts that are not in the file have their defaults.

    Raises:
        ConfigError: there is no template of this name; the message lists similar names, or all.
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
def _values(group: str, name: str) -> Settings:
    """Read a file's settings; the result is cached and must not be changed."""
    names = model_presets() if group == "model" else _names(group)
    if name not in names:
        kind, near = group.rpartition("/")[2], difflib.get_close_matches(name, names)
        known = f"Near it: {', '.join(near)}" if near else f"There are {', '.join(names)}"
        raise ConfigError(f"There is no {kind} called {name!r}. {known}.")
    return yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8"))
