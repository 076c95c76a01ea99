"""Memory of passes: the number of token rows that fit, by the free memory and the model's shape."""

import os
from pathlib import Path

import torch

from fv.errors import ConfigError
from fv.models.language_model import LanguageModel

SHARE = 0.5
"""Share of the free memory that passes may take: kept prompts, and tensors that are not counted, need some too."""
TOKENS = 512
"""Assumed length of a prompt, in tokens. If attention holds all of its scores, longer prompts take more memory."""
FEWEST_ROWS = 2
MOST_ROWS = 2**16
"""Most rows: more would make no matrix product faster, and units of work larger."""
WIDTHS = ("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
"""Names of the width of an MLP in configurations."""


def rows_that_fit(lm: LanguageModel) -> int:
    """Most token rows in one pass that fit in half of the free memory: a power of two.

    It is rounded so that a little more or less free memory does not change it.

    Raises:
        ConfigError: the free memory of the model's device is not known.
    """
    fit = int(min(map(free_bytes, _devices(lm))) * SHARE / bytes_a_row(lm))
    return 1 << (min(max(fit, FEWEST_ROWS), MOST_ROWS).bit_length() - 1)


def bytes_a_row(lm: LanguageModel) -> int:
    """Estimated memory of a token row in a pass, in bytes; modules differ in the tensors that they leave."""
    config, size = lm.config, lm.dtype.itemsize
    attention = lm.n_heads * lm.head_dim
    kv_heads = getattr(config, "num_key_value_heads", None) or lm.n_heads
    mlp = max([4 * lm.d_model, *(getattr(config, name, None) or 0 for name in WIDTHS)])
    kept = 2 * lm.n_layers * kv_heads * lm.head_dim * size  # keys and values of every layer
    in_block = (6 * lm.d_model + 4 * attention + 4 * mlp) * size
    scores = lm.n_heads * TOKENS * (size + 4)  # the scores, and their softmax in float32
    return kept + in_block + scores


def free_bytes(device: torch.device) -> int:
    """Memory that a process may still take on a device, in bytes.

    Raises:
        ConfigError: the device is neither CUDA's nor the CPU.
    """
    if device.type == "cuda":
        # Memory that torch has reserved but does not use is free for torch only.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "cpu":
        return _free_on_cpu()
    raise ConfigError(f"max_rows=auto knows the free memory of CUDA and the CPU, not of {device}: give a number.")


def _devices(lm: LanguageModel) -> set[torch.device]:
    """The devices whose memory passes take: the accelerators that hold weights, or else the CPU."""
    devices = {lm.device, *(weight.device for weight in lm.model.parameters())}
    return {device for device in devices if device.type not in ("cpu", "meta")} or {torch.device("cpu")}


def _free_on_cpu() -> int:
    """Memory that the system can give without swapping, within the limit of the process's control group, if any."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():  # not Linux: half of the installed memory
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    lines = dict(line.split(":") for line in meminfo.read_text(encoding="utf-8").splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text(encoding="utf-8").strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return free
    return free if limit == "max" else min(free, max(0, int(limit) - int(used)))
