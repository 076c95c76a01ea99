"""Measurements of time, matrix-product speed and memory, of this process or of the CUDA device that it uses."""

import ctypes
import platform
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

from fv.models.language_model import LanguageModel


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """Measure the shortest of `repeats` timings, which is the least disturbed one."""
    times = []
    for _ in range(repeats):
        _finish()
        start = time.perf_counter()
        work()
        _finish()
        times.append(time.perf_counter() - start)
    return min(times)


def _finish() -> None:
    """Wait until a CUDA device has finished its work."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def product_speed(lm: LanguageModel, for_seconds: float = 0.5) -> float:
    """Measure the sustained speed of square matrix products on a model's device in its number format, in FLOP/s.

    It is sustained, because a single product may run at a burst of the clock that longer work does not get.
    """
    size = 2048 if lm.device.type == "cpu" else 8192
    a, b, into = (torch.randn(size, size, device=lm.device, dtype=lm.dtype) for _ in range(3))
    torch.mm(a, b, out=into)
    _finish()
    start, products = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < for_seconds:
        torch.mm(a, b, out=into)
        _finish()
        products += 1
    return 2 * size**3 * products / elapsed


def seconds_and_speed(lm: LanguageModel, work: Callable[[], Any], repeats: int = 3) -> tuple[float, float]:
    """Measure the shortest timing of `work`, and the best of the matrix-product speeds between the timings."""
    speeds, times = [product_speed(lm)], []
    for _ in range(repeats):
        times.append(seconds(work, 1))
        speeds.append(product_speed(lm))
    return min(times), max(speeds)


def extra_memory(lm: LanguageModel, work: Callable[[], Any]) -> float:
    """Measure the peak memory during `work` above the memory before it, in MB, on a model's device.

    This is the memory that torch has allocated on a CUDA device, or else resident memory, sampled every 2 ms.
    """
    if lm.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(lm.device)
        allocated = torch.cuda.memory_allocated(lm.device)
        work()
        return (torch.cuda.max_memory_allocated(lm.device) - allocated) / 1e6
    if platform.system() == "Linux":
        ctypes.CDLL(None).malloc_trim(0)  # memory that earlier work freed must not hide this work's memory
    process, done = psutil.Process(), threading.Event()
    before = process.memory_info().rss
    highest = [before]

    def watch() -> None:
        while not done.wait(0.002):
            highest.append(max(highest.pop(), process.memory_info().rss))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return (highest[0] - before) / 1e6
