"""Identity of a run: the settings that decide its results (spec section 4).

It does not include names of models, data and files, nor settings of the machine (threads, device, batch limits).
"""

from collections.abc import Mapping
from typing import Any

from fv.config import Config, EvaluationConfig, ModelConfig, Screen, Split
from fv.config.group import Settings
from fv.data.relations import Relations
from fv.evaluation.conditions import ConditionProvider, is_ours, providers_of
from fv.files import digest_of

DECISIVE = (
    *("seed", "model.quant", "model.add_special_tokens", "compute.dtype", "compute.tf32"),
    *("data.template.demo", "data.template.query", "data.template.target", "data.corruption", "data.split"),
    *("data.hold_out", "data.n_demos", "data.n_trials_per_q", "data.n_mean_trials", "data.n_eval_trials_per_q"),
    *("score.layers", "score.heads", "score.n_trials", "score.adaptive", "score.screen"),
)
ADAPTIVE = ("score.adaptive_step", "score.adaptive_inclusion", "score.key", "score.k")
"""Further decisive settings with `score.adaptive`: they decide the ranking, and so the number of patched trials."""
SCREENED = ("score.verify", "score.verify_random", "score.verify_max", "score.key", "score.k")
"""Further decisive settings with `score.screen`: they decide which heads are measured.

`score.screen_points` is decisive too, if gradients are integrated.
"""
MACHINE = (
    *("compute.device", "compute.threads", "compute.max_rows", "compute.sweep"),
    *("compute.deterministic", "model.device_map"),
)
"""Settings that change only the last bits of a number."""
SOURCE = ("model.id", "model.path", "model.revision", "model.sha256", "model.spec", "model.spec_file")
"""Settings that name the source of a model: two sources of the same weights, tokenizer and spec are the same model."""
CONDITIONS = "evaluation.conditions."
"""Prefix of the keys of conditions' settings."""


def flat(values: Mapping[str, Any], prefix: str = "") -> Settings:
    """Flatten nested settings to {dotted key: value}."""
    found: Settings = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def with_defaults(there: Mapping[str, Any], here: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> Settings:
    """The recorded value of each present setting.

    Args:
        there: the recorded settings, {dotted key: value}.
        here: the present settings, {dotted key: value}.
        more: defaults of settings that are not in `Config`, {dotted key: value}.

    Returns:
        {key of `here`: its recorded value}; a setting that is newer than the record has its default.
    """
    every = EvaluationConfig(conditions=dict(providers_of({})))
    defaults = {**flat(Config(evaluation=every).resolved()), **_conditions_not_there(there, here), **(more or {})}
    return {key: there.get(key, defaults.get(key)) for key in here}


def _conditions_not_there(there: Mapping[str, Any], here: Mapping[str, Any]) -> Settings:
    """The switches, all off, of conditions that are newer than a record.

    A condition of another package is left out if its settings are its defaults, and so counts as unchanged: the
    package was installed later, and the user did not request the difference.
    """
    known = {key.split(".")[2] for key in there if key.startswith(CONDITIONS)}
    absent = {name: own for name, own in providers_of({}).items() if known and name not in known}
    return {
        f"{CONDITIONS}{name}.enabled": False
        for name, own in absent.items()
        if is_ours(type(own)) or any(here.get(key, value) != value for key, value in _settings_of(name, own).items())
    }


def _settings_of(name: str, provider: ConditionProvider) -> Settings:
    resolved = Config(evaluation=EvaluationConfig(conditions={name: provider})).resolved()
    return {key: value for key, value in flat(resolved).items() if key.startswith(f"{CONDITIONS}{name}.")}


def identity(config: Config) -> Settings:
    """The decisive settings of a configuration, {dotted key: value}."""
    values = flat(config.resolved())
    values["score.verify"] = config.score.n_verify
    keys = DECISIVE + (ADAPTIVE if config.score.adaptive else ()) + _screened(config.score.screen)
    # With this split Step6 evaluates on StepD's own trials, and nothing is set aside.
    unused = {"data.n_eval_trials_per_q", "data.hold_out"} if config.data.split is Split.shared else set()
    return {key: values[key] for key in keys if key not in unused}


def _screened(screen: Screen) -> tuple[str, ...]:
    """The settings that decide which heads a screened run measures."""
    if screen is Screen.none:
        return ()
    return (*SCREENED, "score.screen_points") if screen is Screen.integrated else SCREENED


def relation_digests(file: Relations) -> dict[str, str]:
    """Compute {q_id: digest of its pairs, in their order}."""
    return {relation.q_id: digest_of([list(pair) for pair in relation.pairs]) for relation in file.relations}


def is_same_source(there: ModelConfig, here: ModelConfig) -> bool:
    """True if two settings name the same source of the model; then no file needs to be read to compare them."""
    names = [key.removeprefix("model.") for key in SOURCE]
    return all(getattr(there, name) == getattr(here, name) for name in names)
