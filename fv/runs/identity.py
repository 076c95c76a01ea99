"""What a run is: the values that decide its results, whatever they are called (spec section 4).

Names of things (model, data, files) and what the machine is told (threads, device, batch limits) are no part of it. A
setting that did not exist when a run was made is taken to have had the value that its code stood for.
"""

import logging
from collections.abc import Mapping
from typing import Any

from fv.config import Config, EvaluationConfig, Screen
from fv.config.score import VERIFY_EACH
from fv.data.relations import Relations
from fv.errors import ArtifactError
from fv.evaluation.conditions import ConditionProvider, is_ours, providers_of
from fv.files import digest_of
from fv.runs.moved import CONDITIONS, scope_before, under_todays_keys

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
BEFORE: dict[str, Any] = {"evaluation.controls.weaker": []}
"""What settings stood for before they existed, where that is not their default."""
log = logging.getLogger(__name__)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def as_recorded(
    settings: Mapping[str, Any], asked: Mapping[str, Any], more_defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Recorded settings under the keys of those that are `asked` now, both flat or nested.

    A key that the record lacks has the value it stood for when the record was written, or that of `more_defaults`,
    which are flat; one that is no setting any more is left out.
    """
    there = under_todays_keys(flat(settings))
    every = EvaluationConfig(conditions=dict(providers_of({})))
    defaults = {**flat(Config(evaluation=every).resolved()), **BEFORE, **_conditions_not_there(there, flat(asked))}
    defaults |= scope_before(there) | dict(more_defaults or {})
    return {key: there.get(key, defaults.get(key)) for key in flat(asked)}


def _conditions_not_there(there: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The switches of conditions that there were none of when a record with others was written: off.

    One of another package that was installed since makes no difference unless it is asked for: nobody chose that the
    record lacks it, nor that the settings of now have it.
    """
    known = {key.split(".")[2] for key in there if key.startswith(CONDITIONS)}
    absent = {name: own for name, own in providers_of({}).items() if known and name not in known}
    return {
        f"{CONDITIONS}{name}.enabled": False
        for name, own in absent.items()
        if is_ours(type(own)) or any(asked.get(key, value) != value for key, value in _settings_of(name, own).items())
    }


def _settings_of(name: str, provider: ConditionProvider) -> dict[str, Any]:
    resolved = Config(evaluation=EvaluationConfig(conditions={name: provider})).resolved()
    return {key: value for key, value in flat(resolved).items() if key.startswith(f"{CONDITIONS}{name}.")}


def identity(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """The decisive settings of a resolved configuration, as a run records it or `Config.resolved` gives it."""
    values = as_recorded(resolved, Config().resolved())
    if values["score.verify"] is None:
        values["score.verify"] = VERIFY_EACH * values["score.k"]
    keys = DECISIVE + (ADAPTIVE if values["score.adaptive"] else ()) + _screened(values)
    # Nothing is set aside where Step6 evaluates on StepD's own trials.
    unused = {"data.n_eval_trials_per_q", "data.hold_out"} if values["data.split"] == "shared" else set()
    return {key: values[key] for key in keys if key not in unused}


def _screened(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The settings of a screened run's heads."""
    if values["score.screen"] == Screen.none:
        return ()
    return (*SCREENED, "score.screen_points") if values["score.screen"] == Screen.integrated else SCREENED


def relation_digests(file: Relations) -> dict[str, str]:
    """{q_id: digest of its pairs, in order}."""
    return {relation.q_id: digest_of([list(pair) for pair in relation.pairs]) for relation in file.relations}


def is_same_source(there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether two resolved configurations take their model from the same place: then no file needs to be looked at."""
    one, other = (as_recorded(values, Config().resolved()) for values in (there, here))
    return all(one[key] == other[key] for key in SOURCE)


def warn_of_other_machine(there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Say in a line that last bits may differ, where a run was begun with other threads, batches, device or engine.

    Args:
        there: {key of `MACHINE`: what the run was begun with}.
        here: the same of this process.
    """
    both = [key for key in MACHINE if key in there and key in here]
    changed = {key: (there[key], here[key]) for key in both if there[key] != here[key]}
    if changed:
        told = ", ".join(f"{key} {before} there, {now} here" for key, (before, now) in changed.items())
        log.warning("Numbers agree to 1e-5, but not to the byte: %s.", told)


def refuse_changed_relations(there: Mapping[str, str], here: Mapping[str, str], what: str, remedy: str) -> None:
    """Refuse pairs of a relation that are not the run's, or relations of the run that are left out.

    Raises:
        ArtifactError: naming the relations.
    """
    if changed := sorted(q for q in there if q in here and there[q] != here[q]):
        raise ArtifactError(f"{what} was made from other pairs of {', '.join(changed)}.\n{remedy}")
    if gone := sorted(set(there) - set(here)):
        raise ArtifactError(
            f"{what} holds relations that are left out here: {', '.join(gone)}. A run grows and does not shrink: name "
            f"them too (data.qids), evaluate on some only (eval_scope=qid_list), or use another run_id.\n{remedy}"
        )
