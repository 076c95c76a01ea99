"""The machine that a process computes with: its switches, and its description in records (spec sections 3 and 6)."""

import importlib.metadata
import platform
import random
from datetime import UTC, datetime

import numpy as np
import torch

from fv.config import ComputeConfig, ModelConfig, plain
from fv.config.group import Settings
from fv.models.switches import set_switches
from fv.runs.identity import MACHINE

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pandas", "scipy", "hydra-core", "omegaconf")
"""Packages whose versions can change numbers."""


def start_job(seed: int, compute: ComputeConfig) -> None:
    """Seed every generator, fix the thread count and set torch's switches: the jobs of a sweep share one process."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if compute.threads is not None:
        torch.set_num_threads(compute.threads)
    set_switches(compute)


def machine_settings(compute: ComputeConfig, model: ModelConfig) -> Settings:
    """The settings of this machine, by the keys of `fv.runs.identity.MACHINE`; they are recorded, and never refused."""
    values = {f"compute.{key}": value for key, value in plain(compute).items()}
    return {
        **{key: values[key] for key in MACHINE if key in values},
        "compute.threads": torch.get_num_threads(),
        "model.device_map": model.device_map if model.device_map is None else str(model.device_map),
    }


def versions() -> dict[str, str]:
    """The versions of this project, of Python, and of the packages that can change numbers."""
    return {
        "fv": importlib.metadata.version("function-vectors"),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
