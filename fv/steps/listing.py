"""Prints the ready model configurations and the families, for `python -m entrypoints.models`."""

from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from fv.config.model import ModelConfig
from fv.config.presets import CONF, model_presets
from fv.models.spec import SPECS


def list_models() -> None:
    """Print the configurations of `conf/model/` and the families of `fv.models.spec`."""
    models = Table(title="model=<name>")
    for column in ("name", "id", "family", "BOS", "what it is"):
        models.add_column(column)
    for name in sorted([*model_presets(), "local"]):
        text = (CONF / "model" / f"{name}.yaml").read_text(encoding="utf-8")
        values = yaml.safe_load(text)
        special = values.get("add_special_tokens", ModelConfig.add_special_tokens)
        bos = special if special == "auto" else "yes" if special else "no"
        comment = text.splitlines()[0].removeprefix("# ")
        models.add_row(name, values.get("id") or "–", values.get("spec", ModelConfig.spec), bos, comment)
    families = Table(title="families (model.spec)")
    for column in ("family", "blocks", "output projection", "sweep", "properties"):
        families.add_column(column)
    for spec in SPECS:
        families.add_row(spec.name, spec.blocks, spec.out_proj, spec.sweep.value, ", ".join(_properties(vars(spec))))
    console = Console(width=None if Console().is_terminal else 160)
    console.print(models)
    console.print(families)


def _properties(values: dict[str, Any]) -> list[str]:
    """The declared properties that are not the default, by name."""
    flags = [name for name in ("conv1d", "tuple_output") if values[name]]
    named = ("parallel", "post_norm", "attention_multiplier", "logit_multiplier", "logit_divisor", "logit_softcap")
    return flags + [f"{name}={values[name]}" for name in named if values[name]]
