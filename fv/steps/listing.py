"""Prints the ready model configurations and the families, for `python -m entrypoints.models`."""

from typing import Any

import yaml

from fv.config.model import ModelConfig
from fv.config.presets import CONF, model_presets
from fv.display import print_table
from fv.models.spec import SPECS


def list_models() -> None:
    """Print the configurations of `conf/model/` and the families of `fv.models.spec`."""
    models = []
    for name in sorted([*model_presets(), "local"]):
        text = (CONF / "model" / f"{name}.yaml").read_text(encoding="utf-8")
        values = yaml.safe_load(text)
        special = values.get("add_special_tokens", ModelConfig.add_special_tokens)
        bos = special if special == "auto" else "yes" if special else "no"
        comment = text.splitlines()[0].removeprefix("# ")
        models.append((name, values.get("id") or "–", values.get("spec", ModelConfig.spec), bos, comment))
    print_table("model=<name>", ("name", "id", "family", "BOS", "what it is"), models, n_text=5)
    families = [
        (spec.name, spec.blocks, spec.out_proj, spec.sweep.value, ", ".join(_properties(vars(spec)))) for spec in SPECS
    ]
    names = ("family", "blocks", "output projection", "sweep", "properties")
    print_table("families (model.spec)", names, families, n_text=5)


def _properties(values: dict[str, Any]) -> list[str]:
    """The declared properties that are not the default, by name."""
    flags = [name for name in ("conv1d", "tuple_output") if values[name]]
    named = ("parallel", "post_norm", "attention_multiplier", "logit_multiplier", "logit_divisor", "logit_softcap")
    return flags + [f"{name}={values[name]}" for name in named if values[name]]
