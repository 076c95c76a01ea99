"""Lists of the choices for settings: models and families, and analyses."""

import inspect

import yaml

from fv.analyses import known_analyses
from fv.config.group import plain
from fv.config.model import ModelConfig
from fv.config.presets import CONF, model_presets
from fv.display import print_table
from fv.models.spec import SPECS, ModelSpec


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
        (spec.name, spec.blocks, spec.out_proj, spec.sweep.value, ", ".join(_properties(spec))) for spec in SPECS
    ]
    names = ("family", "blocks", "output projection", "sweep", "properties")
    print_table("families (model.spec)", names, families, n_text=5)


def list_analyses() -> None:
    """Print all analyses, including those of other installed packages, with their settings."""
    rows = []
    for name, analysis in known_analyses().items():
        settings = "\n".join(f"analysis.{name}.{key}={value}" for key, value in plain(analysis()).items())
        package, default = analysis.__module__.partition(".")[0], "yes" if analysis.default else "no"
        what = " ".join((inspect.getdoc(analysis) or "").partition("\n\n")[0].split())
        rows.append((name, analysis.after, default, package, settings or "none", what))
    names = ("name", "reads", "by itself", "of", "settings", "what it is")
    print_table("analysis=[<name>,…]", names, rows, n_text=6)


def _properties(spec: ModelSpec) -> list[str]:
    """The properties of a family that differ from the defaults, by name."""
    flags = [name for name in ("conv1d", "tuple_output") if getattr(spec, name)]
    named = ("parallel", "post_norm", "attention_multiplier", "logit_multiplier", "logit_divisor", "logit_softcap")
    return flags + [f"{name}={value}" for name in named if (value := getattr(spec, name))]
