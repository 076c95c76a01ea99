"""Refusals: a run's folder belongs to one configuration, one model and one set of trials (spec sections 4 and 6)."""

import logging
from collections.abc import Mapping
from typing import Any

from fv.config import Config, ModelConfig
from fv.config.checks import AUTO
from fv.config.group import Settings
from fv.data.snapshot import Snapshot
from fv.data.trial import Trial
from fv.errors import ArtifactError
from fv.models.language_model import LanguageModel, weights_of
from fv.models.special_tokens import adds_special_tokens
from fv.models.tokenizer import fingerprint_of, load_tokenizer
from fv.runs.identity import MACHINE, flat, identity, is_same_source, with_defaults
from fv.runs.machine import machine_settings
from fv.runs.paths import RunPaths
from fv.runs.records import StepDRecord, StepRecord

REMEDY = "Use another tag (tag=<name>), or overwrite=true."
OTHER_RUN = "Give the same settings, or another run_id; StepD with overwrite=true throws the old run away."
TRIALS = "data.n_trials_per_q"
SPECIAL_TOKENS = "model.add_special_tokens"
log = logging.getLogger(__name__)


def refuse_difference(there: Mapping[str, Any], here: Mapping[str, Any], what: str, remedy: str) -> None:
    """Refuse requested values that differ from recorded ones.

    Args:
        there: the recorded values.
        here: the requested values.
        what: the subject of the message.
        remedy: the remedy in the message.

    Raises:
        ArtifactError: they differ; the message names each differing key with both values.
    """
    keys = [key for key in sorted({*there, *here}) if there.get(key) != here.get(key)]
    if keys:
        lines = "".join(f"\n  {key}: there {there.get(key)!r}, here {here.get(key)!r}" for key in keys)
        raise ArtifactError(f"{what} belongs to another configuration:{lines}\n{remedy}")


def refuse_other_settings(
    there: Mapping[str, Any], here: Mapping[str, Any], what: str, remedy: str, more: Mapping[str, Any] | None = None
) -> None:
    """Refuse settings that differ from the recorded ones.

    Args:
        there: the recorded settings, {dotted key: value}; a setting newer than the record has its default.
        here: the requested settings, nested or dotted.
        what: the subject of the message.
        remedy: the remedy in the message.
        more: defaults of settings that are not in `Config`, {dotted key: value}.

    Raises:
        ArtifactError: they differ; the message names each differing key with both values.
    """
    requested = flat(here)
    refuse_difference(with_defaults(flat(there), requested, more), requested, what, remedy)


def refuse_other_run(paths: RunPaths, record: StepDRecord, config: Config, may_grow: bool) -> None:
    """Refuse a run whose decisive settings or whose model differ from the requested ones.

    The same model may have another source, and the same special tokens another spelling. The model's files are read
    only if this is in question; its weights are never loaded.

    Args:
        paths: the paths of the run.
        record: StepD's record.
        config: the requested configuration.
        may_grow: True if more fit trials may be requested than the run has; StepD alone may add trials.

    Raises:
        ArtifactError: they differ; the message names each differing value.
    """
    what = f"The run in {paths.root}"
    there, here = identity(record.config), identity(config)
    if may_grow and here[TRIALS] >= there[TRIALS]:
        there[TRIALS] = here[TRIALS]
    # The tokenizer is read only if no other setting differs.
    refuse_difference({**there, SPECIAL_TOKENS: None}, {**here, SPECIAL_TOKENS: None}, what, OTHER_RUN)
    spelled = there[SPECIAL_TOKENS], here[SPECIAL_TOKENS]
    if spelled[0] != spelled[1] and not _same_special_tokens(*spelled, config.model):
        refuse_difference(there, here, what, OTHER_RUN)
    if not is_same_source(record.config.model, config.model):
        found = weights_of(fingerprint_of(config.model))
        refuse_difference(weights_of(record.model), found, f"{what} is of another model. It", OTHER_RUN)
    _warn_of_other_machine(record, machine_settings(config.compute, config.model))


def _warn_of_other_machine(record: StepDRecord, here: Settings) -> None:
    """Warn that last bits may differ if the run was begun with other threads, batches, another device or engine."""
    device_map = record.config.model.device_map
    there = {
        **{key: value for key, value in record.compute.items() if key in MACHINE},
        "compute.device": record.config.compute.device,
        "model.device_map": device_map if device_map is None else str(device_map),
    }
    if here["compute.max_rows"] == AUTO:  # it will be the run's own (`fv.runs.engine`)
        del here["compute.max_rows"]
    changed = [key for key in MACHINE if key in there and key in here and there[key] != here[key]]
    if changed:
        told = ", ".join(f"{key} {there[key]} there, {here[key]} here" for key in changed)
        log.warning("Numbers agree to 1e-5, but not to the byte: %s.", told)


def refuse_other_trials(there: Snapshot, here: Snapshot, paths: RunPaths) -> None:
    """Refuse new trials that change or drop a trial of the run.

    Raises:
        ArtifactError: a trial would change or be dropped; the message names the first and its differing fields.
    """
    new = {trial.trial_id: trial for trial in here.trials}
    for trial in there.trials:
        if trial == (other := new.get(trial.trial_id)):
            continue
        fields = [name for name in Trial.model_fields if other and getattr(trial, name) != getattr(other, name)]
        how = f"would have another {' and '.join(fields[:3])}" if fields else "would not be drawn"
        raise ArtifactError(
            f"The run in {paths.root} keeps the trials it has, and with these settings its trial {trial.trial_id} "
            f"{how}. {OTHER_RUN}"
        )


def refuse_other_model(record: StepRecord, lm: LanguageModel, paths: RunPaths) -> None:
    """Refuse a model whose weights or tokenizer differ from the recorded ones.

    Raises:
        ArtifactError: they differ; the message names both.
    """
    refuse_difference(
        weights_of(record.model),
        weights_of(lm.fingerprint),
        f"The model of the run in {paths.root}",
        "The settings are the same, but the model's files changed. Restore them, or start another run_id.",
    )


def refuse_changed_relations(there: Mapping[str, str], here: Mapping[str, str], paths: RunPaths) -> None:
    """Refuse relations whose pairs differ from the run's, and requests that leave out a relation of the run.

    Args:
        there: {relation: digest of its pairs} of the run.
        here: {relation: digest of its pairs} of the request.
        paths: the paths of the run.

    Raises:
        ArtifactError: there are such relations; the message names them.
    """
    what = f"The run in {paths.root}"
    if changed := sorted(q for q in there if q in here and there[q] != here[q]):
        raise ArtifactError(f"{what} was made from other pairs of {', '.join(changed)}.\n{OTHER_RUN}")
    if gone := sorted(set(there) - set(here)):
        raise ArtifactError(
            f"{what} holds relations that are left out here: {', '.join(gone)}. A run grows and does not shrink: name "
            f"them too (data.qids), evaluate on some only (eval_scope=qid_list), or use another run_id.\n{OTHER_RUN}"
        )


def _same_special_tokens(one: str | bool, other: str | bool, model: ModelConfig) -> bool:
    tokenizer = load_tokenizer(model).tokenizer
    return adds_special_tokens(tokenizer, one) == adds_special_tokens(tokenizer, other)
