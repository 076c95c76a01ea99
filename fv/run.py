"""A run directory belongs to one configuration: who may write there, and what every step records.

Spec sections 3, 4 and 6.
"""

import dataclasses
import importlib.metadata
import platform
import random
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fv
from fv.artifacts import RunPaths, read_json, verify_outputs
from fv.config import Config, ModelConfig
from fv.errors import ArtifactError
from fv.models.language_model import LanguageModel
from fv.models.special_tokens import SETTING, adds_special_tokens
from fv.tokenizer import load_tokenizer

REMEDY = "Use another tag (tag=<name>), or overwrite=true."
ADAPTIVE_KEYS = ("adaptive", "adaptive_step", "adaptive_inclusion", "key", "k")
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pandas", "scipy", "hydra-core", "omegaconf")


def start_job(config: Config) -> None:
    """Seed every generator and fix the thread count; a sweep's jobs share one process."""
    random.seed(config.seed)
    np.random.seed(config.seed % 2**32)
    torch.manual_seed(config.seed)
    if config.compute.threads is not None:
        torch.set_num_threads(config.compute.threads)


def identity(config: Config) -> dict[str, Any]:
    """The settings that a run directory is for; the same in all its steps."""
    values = config.resolved()
    kept: dict[str, Any] = {"seed": config.seed}
    for group, keys in (
        ("model", None),
        ("data", None),
        ("score", ("layers", "heads", "n_trials")),
        ("compute", ("device", "dtype")),
    ):
        for key in keys or values[group]:
            kept[f"{group}.{key}"] = values[group][key]
    return kept


def sweep_settings(config: Config) -> dict[str, Any]:
    """What else changes the last bits of StepD's numbers."""
    settings = {
        "compute.sweep": config.compute.sweep.value,
        "compute.max_rows": config.compute.max_rows,
        "compute.threads": torch.get_num_threads(),
    }
    if config.score.adaptive:
        # Then the ranking says how many trials are patched.
        settings |= {f"score.{key}": config.resolved()["score"][key] for key in ADAPTIVE_KEYS}
    return settings


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


def refuse_other_run(paths: RunPaths, there: dict[str, Any], here: dict[str, Any], model: ModelConfig) -> None:
    """`refuse_difference` for a run directory.

    `model.add_special_tokens` may be spelled otherwise, if it gives the same tokens: with `false` as with `auto`, no
    tokens where the tokenizer adds none. Only to tell that is the tokenizer of `model` read, and never the weights.
    """
    what = f"The run in {paths.root}"
    remedy = "Give the same settings, or another run_id; StepD with overwrite=true throws the old run away."
    # Each setting without this one, then this one by itself.
    rest_there, rest_here = ({k: v for k, v in values.items() if k != SETTING} for values in (there, here))
    refuse_difference(rest_there, rest_here, what, remedy)
    if there[SETTING] != here[SETTING] and not _same_special_tokens(there[SETTING], here[SETTING], model):
        refuse_difference({SETTING: there[SETTING]}, {SETTING: here[SETTING]}, what, remedy)


def _same_special_tokens(one: str | bool, other: str | bool, model: ModelConfig) -> bool:
    tokenizer = load_tokenizer(model).tokenizer
    return adds_special_tokens(tokenizer, one) == adds_special_tokens(tokenizer, other)


def finished_stepd(paths: RunPaths, config: Config) -> dict[str, Any]:
    """StepD's metadata, for a later step of the same run.

    Raises:
        ArtifactError: StepD has not finished, or the run is of another configuration.
    """
    command = f"python -m entrypoints.stepd run_id={config.run_id} (with this command's other settings)"
    if not paths.stepd_meta.exists():
        raise ArtifactError(f"There is no StepD in {paths.root}. Run it first: {command}")
    meta = read_meta(paths.stepd_meta)
    refuse_other_run(paths, meta["identity"], identity(config), config.model)
    if meta["status"] != "ok":
        raise ArtifactError(f"StepD in {paths.root} has not finished. Let it go on: {command}")
    return meta


def read_meta(path: Path) -> dict[str, Any]:
    """A step's metadata.

    Raises:
        ArtifactError: the file is missing, truncated, or not a step's metadata.
    """
    meta = read_json(path)
    if not isinstance(meta, dict) or meta.get("schema_version") != 1 or "status" not in meta:
        raise ArtifactError(f"{path} is not the metadata of a step (schema 1).")
    return meta


def is_complete(step: str, meta_path: Path, settings: dict[str, Any], inputs: dict[str, str], overwrite: bool) -> bool:
    """Whether the outputs beside `meta_path` are a step's, made with these settings and inputs, and unchanged.

    Raises:
        ArtifactError: they are of other settings or inputs, or were changed, and `overwrite` is false.
    """
    if overwrite or not meta_path.exists():
        return False
    meta, what = read_meta(meta_path), f"{step} in {meta_path.parent}"
    refuse_difference(meta["settings"], settings, what, REMEDY)
    refuse_difference(meta["inputs"], inputs, f"{what} (made from other files)", REMEDY)
    verify_outputs(meta_path.parent, meta["outputs"], step)
    return True


def clear_run(paths: RunPaths) -> None:
    """Throw a run's artifacts and logs away."""
    for folder in (paths.artifacts, paths.logs):
        shutil.rmtree(folder, ignore_errors=True)


def refuse_other_model(meta: dict[str, Any], lm: LanguageModel, paths: RunPaths) -> None:
    """Refuse a model whose weights or tokenizer are not StepD's.

    Raises:
        ArtifactError: naming both.
    """
    refuse_difference(
        meta["model"],
        lm.fingerprint,
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
        "compute": {**sweep_settings(config), "spec": lm.spec.name, "cpu": torch.backends.cpu.get_cpu_capability()},
        "versions": {
            "fv": fv.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "started": now(),
        **more,
    }


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
