"""Self-check of one model."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from fv.config import Config
from fv.display import print_table
from fv.steps.model_holder import ModelHolder
from fv.steps.remedies import with_remedies

log = logging.getLogger(__name__)


@with_remedies()
def check_model(config: Config, models: ModelHolder | None = None) -> Path:
    """Load the model of `config`, run its self-check, and print the measurements.

    Args:
        config: the configuration.
        models: loads the model; None loads it for this call only.

    Returns:
        the folder of runs; nothing is written.

    Raises:
        ModelError: the model cannot be found or fails its self-check.
    """
    from fv.interventions.selfcheck_limits import limits_of
    from fv.models.special_tokens import adds_special_tokens, special_tokens_warning, used_tokens

    lm = (models or ModelHolder()).of(replace(config, compute=replace(config.compute, selfcheck=True)), fresh=True)
    used = adds_special_tokens(lm.tokenizer, config.model.add_special_tokens)
    setting, name = config.model.add_special_tokens, config.model.called("add_special_tokens")
    if warning := special_tokens_warning(lm.tokenizer, used, setting, name):
        log.warning(warning)
    special = " ".join(used_tokens(lm.tokenizer, used)) or "none"
    shape = f"{lm.n_layers} layers × {lm.n_heads} heads × {lm.head_dim}, d_model {lm.d_model}"
    known = {"shape": shape, "special tokens": special, **lm.fingerprint}
    title = f"{lm.name}: {type(lm.model).__name__}, model.spec={lm.spec.name}"
    print_table(title, ("property", "value"), [(name, _shown(value)) for name, value in known.items()], n_text=2)
    limits = limits_of(lm)
    rows = []
    for name, value in lm.selfcheck.items():
        limit = limits.get(name) if value is not None else None
        passes = "–" if limit is None else "yes" if limit.admits(value) else "no"
        rows.append((name.replace("_", " "), _shown(value), "–" if limit is None else str(limit), passes))
    print_table("self-check", ("property", "measured", "threshold", "pass"), rows, n_text=2)
    return Path(config.results_dir)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"layer {key}: {_shown(item)}" for key, item in value.items())
    return f"{value:.2g}" if isinstance(value, float) else str(value)
