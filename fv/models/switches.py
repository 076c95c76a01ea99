"""Switches of torch for exact and repeatable computation; they act on the whole process."""

import os

import torch

from fv.config import ComputeConfig


def set_switches(compute: ComputeConfig) -> None:
    """Turn TF32 and deterministic algorithms on or off, by the settings.

    Steps call this; the library leaves its caller's switches alone.
    """
    torch.backends.cuda.matmul.allow_tf32 = compute.tf32
    torch.backends.cudnn.allow_tf32 = compute.tf32
    if compute.deterministic:
        # cuBLAS reads this variable when it is first used. A value that the user has set stays.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(compute.deterministic)
