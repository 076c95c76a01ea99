"""The identity of a run: the settings that decide its results (spec section 4).

Names of models, data and files are no part of it, nor is what the machine is told (threads, device, batch limits).
"""

from collections.abc import Mapping
from typing import Any

from fv.config import Config, EvaluationConfig, ModelConfig, Screen, Split
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
"""With `score.adaptive` the ranking says how many trials are patched, and these decide it."""
SCREENED = ("score.verify", "score.verify_random", "score.verify_max", "score.key", "score.k")
"""With `score.screen` these decide which heads are measured; `score.screen_points` does if gradients are integrated."""
MACHINE = (
    *("compute.device", "compute.threads", "compute.max_rows", "compute.sweep"),
    *("compute.deterministic", "model.device_map"),
)
"""What changes the last bits of a number, and no more."""
SOURCE = ("model.id", "model.path", "model.revision", "model.sha256", "model.spec", "model.spec_file")
"""Where a model comes from: another source of the same weights, tokenizer and spec is the same model."""
CONDITIONS = "evaluation.conditions."
"""How the keys of conditions' settings begin."""


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def with_defaults(
    there: Mapping[str, Any], here: Mapping[str, Any], more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The values that a record has for today's settings.

    Args:
        there: the recorded settings, {dotted key: value}.
        here: today's settings, {dotted key: value}.
        more: defaults of settings that are in no `Config`, {dotted key: value}.

    Returns:
        {key of `here`: its recorded value}; a setting that came after the record has its default.
    """
    every = EvaluationConfig(conditions=dict(providers_of({})))
    defaults = {**flat(Config(evaluation=every).resolved()), **_conditions_not_there(there, here), **(more or {})}
    return {key: there.get(key, defaults.get(key)) for key in here}


def _conditions_not_there(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    """The switches of conditions that came after a record, which count as off in it.

    A condition of a package that was installed since then counts as it is set now, unless its settings are not its
    defaults: nobody decided that the record lacks it.
    """
    known = {key.split(".")[2] for key in there if key.startswith(CONDITIONS)}
    absent = {name: own for name, own in providers_of({}).items() if known and name not in known}
    return {
        f"{CONDITIONS}{name}.enabled": False
        for name, own in absent.items()
        if is_ours(type(own)) or any(here.get(key, value) != value for key, value in _settings_of(name, own).items())
    }


def _settings_of(name: str, provider: ConditionProvider) -> dict[str, Any]:
    resolved = Config(evaluation=EvaluationConfig(conditions={name: provider})).resolved()
    return {key: value for key, value in flat(resolved).items() if key.startswith(f"{CONDITIONS}{name}.")}


def identity(config: Config) -> dict[str, Any]:
    """The decisive settings of a configuration, {dotted key: value}."""
    values = flat(config.resolved())
    values["score.verify"] = config.score.n_verify
    keys = DECISIVE + (ADAPTIVE if config.score.adaptive else ()) + _screened(config.score.screen)
    # Nothing is set aside where Step6 evaluates on StepD's own trials.
    unused = {"data.n_eval_trials_per_q", "data.hold_out"} if config.data.split is Split.shared else set()
    return {key: values[key] for key in keys if key not in unused}


def _screened(screen: Screen) -> tuple[str, ...]:
    """The settings that decide which heads a screened run measures."""
    if screen is Screen.none:
        return ()
    return (*SCREENED, "score.screen_points") if screen is Screen.integrated else SCREENED


def relation_digests(file: Relations) -> dict[str, str]:
    """{q_id: digest of its pairs, in order}."""
    return {relation.q_id: digest_of([list(pair) for pair in relation.pairs]) for relation in file.relations}


def is_same_source(there: ModelConfig, here: ModelConfig) -> bool:
    """Whether two settings take their model from the same place: then no file needs to be looked at."""
    names = [key.removeprefix("model.") for key in SOURCE]
    return all(getattr(there, name) == getattr(here, name) for name in names)
