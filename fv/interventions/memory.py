"""How many token rows fit in one pass, by the memory that is free and the model's shape."""

import os
from pathlib import Path

import torch

from fv.errors import ConfigError
from fv.models.language_model import LanguageModel

SHARE = 0.5
"""Of the free memory that passes are meant to take: prompts that are kept, and what is not counted, need some too."""
TOKENS = 512
"""How long a prompt is taken to be. Where attention holds all of its scores, longer ones take more."""
FEWEST_ROWS = 2
MOST_ROWS = 2**16
"""More rows make no product faster, and larger units of work."""
WIDTHS = ("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
"""What configurations call the width of an MLP."""


def rows_that_fit(lm: LanguageModel) -> int:
    """Most token rows in one pass that fit half of the memory that is free now, a power of two.

    Rounded so that a little more or less free memory does not change it.

    Raises:
        ConfigError: the free memory of the model's device is not known.
    """
    fit = int(min(map(free_bytes, _devices(lm))) * SHARE / bytes_a_row(lm))
    return 1 << (min(max(fit, FEWEST_ROWS), MOST_ROWS).bit_length() - 1)


def bytes_a_row(lm: LanguageModel) -> int:
    """About what a token row of a pass takes, in bytes: an estimate, since modules differ in what they leave over."""
    config, size = lm.config, lm.dtype.itemsize
    attention = lm.n_heads * lm.head_dim
    kv_heads = getattr(config, "num_key_value_heads", None) or lm.n_heads
    mlp = max([4 * lm.d_model, *(getattr(config, name, None) or 0 for name in WIDTHS)])
    kept = 2 * lm.n_layers * kv_heads * lm.head_dim * size  # keys and values of every layer
    in_block = (6 * lm.d_model + 4 * attention + 4 * mlp) * size
    scores = lm.n_heads * TOKENS * (size + 4)  # as they are, and their softmax in float32
    return kept + in_block + scores


def free_bytes(device: torch.device) -> int:
    """Memory that a process may still take on a device, in bytes.

    Raises:
        ConfigError: the device is neither CUDA's nor the CPU.
    """
    if device.type == "cuda":
        # What torch holds and does not use is free for it, and nobody else sees that.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "cpu":
        return _free_on_cpu()
    raise ConfigError(f"max_rows=auto knows the free memory of CUDA and the CPU, not of {device}: name a number.")


def _devices(lm: LanguageModel) -> set[torch.device]:
    """Where passes take memory: the accelerators that hold weights, or the CPU where there are none."""
    devices = {lm.device, *(weight.device for weight in lm.model.parameters())}
    return {device for device in devices if device.type not in ("cpu", "meta")} or {torch.device("cpu")}


def _free_on_cpu() -> int:
    """What the system says it can give without swapping, within the limit of the process's control group, if any."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():  # not Linux: half of what is built in
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    lines = dict(line.split(":") for line in meminfo.read_text(encoding="utf-8").splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text(encoding="utf-8").strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return free
    return free if limit == "max" else min(free, max(0, int(limit) - int(used)))
