"""A run directory belongs to one configuration: who may write there, and what every step records.

Spec sections 3, 4 and 6.
"""

import dataclasses
import importlib.metadata
import logging
import platform
import random
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fv.config import Config, ModelConfig
from fv.config.checks import AUTO
from fv.data.snapshot import Snapshot, Trial, read_snapshot
from fv.errors import ArtifactError, shorten
from fv.models.language_model import LanguageModel, weights_of
from fv.models.special_tokens import adds_special_tokens
from fv.models.switches import set_switches
from fv.models.tokenizer import fingerprint_of, load_tokenizer
from fv.runs.commands import command
from fv.runs.identity import MACHINE, as_recorded, flat, identity, is_same_source, warn_of_other_machine
from fv.runs.outputs import Outputs, verify_outputs
from fv.runs.paths import FIGURES, PAGE, SNAPSHOT, RunPaths
from fv.runs.records import FOREIGN, read_meta

REMEDY = "Use another tag (tag=<name>), or overwrite=true."
OTHER_RUN = "Give the same settings, or another run_id; StepD with overwrite=true throws the old run away."
TRIALS = "data.n_trials_per_q"
SPECIAL_TOKENS = "model.add_special_tokens"
log = logging.getLogger(__name__)
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pandas", "scipy", "hydra-core", "omegaconf")


def start_job(config: Config) -> None:
    """Seed every generator, fix the thread count and set torch's switches; a sweep's jobs share one process."""
    random.seed(config.seed)
    np.random.seed(config.seed % 2**32)
    torch.manual_seed(config.seed)
    if config.compute.threads is not None:
        torch.set_num_threads(config.compute.threads)
    set_switches(config.compute)


def machine_settings(config: Config) -> dict[str, Any]:
    """What this process computes with, by the keys of `fv.runs.identity.MACHINE`: recorded, and never refused."""
    values = flat(config.resolved())
    device_map = config.model.device_map
    return {
        **{key: values[key] for key in MACHINE if key.startswith("compute.")},
        "compute.threads": torch.get_num_threads(),
        "model.device_map": device_map if device_map is None else str(device_map),
    }


def stats_settings(config: Config) -> dict[str, Any]:
    """The settings of the intervals."""
    return {f"stats.{key}": value for key, value in config.resolved()["stats"].items()}


def refuse_difference(there: dict[str, Any], here: dict[str, Any], what: str, remedy: str) -> None:
    """Refuse settings that differ from the ones a place was made with.

    Raises:
        ArtifactError: naming each differing key with both values.
    """
    keys = [key for key in sorted({*there, *here}) if there.get(key) != here.get(key)]
    if keys:
        lines = "".join(f"\n  {key}: there {there.get(key)!r}, here {here.get(key)!r}" for key in keys)
        raise ArtifactError(f"{what} belongs to another configuration:{lines}\n{remedy}")


def refuse_other_settings(
    there: dict[str, Any], here: dict[str, Any], what: str, remedy: str, defaults: Mapping[str, Any] | None = None
) -> None:
    """`refuse_difference` for settings, of which the recorded ones may be of an older version: `as_recorded`."""
    refuse_difference(as_recorded(there, here, defaults), flat(here), what, remedy)


def refuse_other_run(paths: RunPaths, meta: dict[str, Any], config: Config, may_grow: bool) -> None:
    """Refuse a run directory whose results other values decide.

    The model may be taken from elsewhere, and its special tokens spelled otherwise, if it is the same and they come to
    the same; only where that is in question are the model's files read, and never its weights loaded.

    Args:
        paths: the run's.
        meta: StepD's metadata.
        config: what is asked.
        may_grow: whether more fit trials than the run has may be asked for: by StepD itself.

    Raises:
        ArtifactError: naming each differing value.
    """
    what = f"The run in {paths.root}"
    there, here = identity(meta["config"]), identity(config.resolved())
    if may_grow and here[TRIALS] >= there[TRIALS]:
        there[TRIALS] = here[TRIALS]
    # The rest first: only where nothing else differs is the tokenizer looked at.
    refuse_difference({**there, SPECIAL_TOKENS: None}, {**here, SPECIAL_TOKENS: None}, what, OTHER_RUN)
    spelled = there[SPECIAL_TOKENS], here[SPECIAL_TOKENS]
    if spelled[0] != spelled[1] and not _same_special_tokens(*spelled, config.model):
        refuse_difference(there, here, what, OTHER_RUN)
    if not is_same_source(meta["config"], config.resolved()):
        found = weights_of(fingerprint_of(config.model))
        refuse_difference(weights_of(meta["model"]), found, f"{what} is of another model. It", OTHER_RUN)
    machine = machine_settings(config)
    if machine["compute.max_rows"] == AUTO:  # it will be the run's own (`fv.runs.engine`)
        del machine["compute.max_rows"]
    warn_of_other_machine(_machine_of(meta), machine)


def refuse_other_trials(there: Snapshot, here: Snapshot, paths: RunPaths) -> None:
    """Refuse trials under which one that the run has drawn would be another, or gone.

    Raises:
        ArtifactError: naming the first such trial and what of it differs.
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


def _machine_of(meta: dict[str, Any]) -> dict[str, Any]:
    """What a run was computed with, by the keys of `fv.runs.identity.MACHINE`, as far as its metadata says."""
    device_map = meta["config"]["model"].get("device_map")
    return {
        **{key: value for key, value in meta["compute"].items() if key in MACHINE},
        "compute.device": meta["config"]["compute"]["device"],
        "model.device_map": device_map if device_map is None else str(device_map),
    }


def _same_special_tokens(one: str | bool, other: str | bool, model: ModelConfig) -> bool:
    tokenizer = load_tokenizer(model).tokenizer
    return adds_special_tokens(tokenizer, one) == adds_special_tokens(tokenizer, other)


def finished_stepd(paths: RunPaths, config: Config) -> dict[str, Any]:
    """StepD's metadata, for a later step of the same run.

    Raises:
        ArtifactError: StepD has not finished, or the run is of another configuration.
    """
    stepd = command("stepd", f"run_id={config.run_id} (with this command's other settings)")
    if not paths.stepd_meta.exists():
        raise ArtifactError(f"There is no StepD in {paths.root}. Run it first: {stepd}")
    meta = read_meta(paths.stepd_meta)
    refuse_other_run(paths, meta, config, may_grow=False)
    if meta["status"] != "ok":
        raise ArtifactError(f"StepD in {paths.root} has not finished. Let it go on: {stepd}")
    verify_outputs(paths.artifacts, {SNAPSHOT: meta["outputs"][SNAPSHOT]}, "StepD")
    if config.data.qids is not None:
        known = sorted(read_snapshot(paths.snapshot).meta.counts)
        refuse_difference({"data.qids": known}, {"data.qids": config.data.qids}, f"The run in {paths.root}", OTHER_RUN)
    return meta


def is_complete(
    step: str,
    meta_path: Path,
    settings: dict[str, Any],
    inputs: dict[str, str],
    overwrite: bool,
    defaults: Mapping[str, Any] | None = None,
) -> bool:
    """Whether the outputs beside `meta_path` are a step's, made with these settings and inputs, and unchanged.

    Outputs of other inputs are stale: the run has grown, or an earlier step was made again. That is said, and they are
    to be made again. `defaults` are of settings that are in no `Config`.

    Raises:
        ArtifactError: they are of other settings, of another file that is none of the run's, or were changed, and
            `overwrite` is false.
    """
    if overwrite or not meta_path.exists():
        return False
    meta, what = {"settings": {}, "inputs": {}, "outputs": {}, **read_meta(meta_path)}, f"{step} in {meta_path.parent}"
    refuse_other_settings(meta["settings"], settings, what, REMEDY, defaults)
    there, here = ({name: of.get(name) for name in FOREIGN} for of in (meta["inputs"], inputs))
    refuse_difference(there, here, f"{what} (made from other files)", REMEDY)
    verify_outputs(meta_path.parent, meta["outputs"], step)
    if changed := sorted(name for name in {*inputs, *meta["inputs"]} if meta["inputs"].get(name) != inputs.get(name)):
        log.info("%s is stale: %s changed since. Making it again.", what, shorten(changed))
        return False
    return True


def clear_run(paths: RunPaths) -> None:
    """Throw a run's artifacts, logs, records and pages away."""
    forget_pages(paths, of_all_tags=True)
    for folder in (paths.artifacts, paths.logs, paths.stages):
        shutil.rmtree(folder, ignore_errors=True)


def forget_pages(paths: RunPaths, of_all_tags: bool = False) -> None:
    """Remove the page that shows results which are about to change: that of the tag, or those of all tags."""
    untagged = replace(paths, tag=None).report
    for folder in [untagged, *untagged.glob("*")] if of_all_tags else [paths.report]:
        (folder / PAGE).unlink(missing_ok=True)
        shutil.rmtree(folder / FIGURES, ignore_errors=True)


def refuse_other_model(meta: dict[str, Any], lm: LanguageModel, paths: RunPaths) -> None:
    """Refuse a model whose weights or tokenizer are not StepD's.

    Raises:
        ArtifactError: naming both.
    """
    refuse_difference(
        weights_of(meta["model"]),
        weights_of(lm.fingerprint),
        f"The model behind {paths.root}",
        "The settings are the same, but the files behind them changed. Restore them, or start another run_id.",
    )


def step_meta(step: str, config: Config, lm: LanguageModel, **more: Any) -> dict[str, Any]:
    """What every step records: settings, model, machine, versions; `more` adds the step's own."""
    return {
        "schema_version": 1,
        "step": step,
        "status": "running",
        "canonical": config.canonical,
        "seed": config.seed,
        "config": config.resolved(),
        "model": lm.fingerprint,
        "selfcheck": lm.selfcheck,
        "spec": dataclasses.asdict(lm.spec),
        "compute": {**machine_settings(config), "spec": lm.spec.name, "cpu": torch.backends.cpu.get_cpu_capability()},
        "versions": versions(),
        "started": now(),
        **more,
    }


def versions() -> dict[str, str]:
    """Of this project, Python and what decides numbers."""
    return {
        "fv": importlib.metadata.version("function-vectors"),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def finished(meta: dict[str, Any], outputs: Outputs, **more: Any) -> dict[str, Any]:
    """A step's metadata once its files are there; `more` is what only its end knows."""
    return {**meta, "status": "ok", "finished": now(), **more, "outputs": outputs.hashes()}


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
