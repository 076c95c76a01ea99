"""torch's switches that decide how exactly, and how repeatably, a device computes. They are the whole process's."""

import os

import torch

from fv.config import ComputeConfig


def set_switches(compute: ComputeConfig) -> None:
    """Turn TF32 and deterministic algorithms on or off, as settings say.

    Steps do this; the library leaves the switches as its caller has them.
    """
    torch.backends.cuda.matmul.allow_tf32 = compute.tf32
    torch.backends.cudnn.allow_tf32 = compute.tf32
    if compute.deterministic:
        # cuBLAS reads it when it is first used. Another value that was chosen is as good.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(compute.deterministic)
