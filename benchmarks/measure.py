"""Seconds, matrix-product speed and memory of this process, and of a CUDA device that it uses."""

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
    """The shortest of `repeats` timings: the one least disturbed."""
    times = []
    for _ in range(repeats):
        _finish()
        start = time.perf_counter()
        work()
        _finish()
        times.append(time.perf_counter() - start)
    return min(times)


def _finish() -> None:
    """Wait for a device that goes on by itself."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def product_speed(lm: LanguageModel, for_seconds: float = 0.5) -> float:
    """Sustained speed of square matrix products where a model is and in its number format, in FLOP/s.

    Sustained, because a single product may run in a burst of the clock that no longer work gets.
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
    """The shortest timing of `work`, and the best matrix-product speed of those measured between the timings."""
    speeds, times = [product_speed(lm)], []
    for _ in range(repeats):
        times.append(seconds(work, 1))
        speeds.append(product_speed(lm))
    return min(times), max(speeds)


def extra_memory(lm: LanguageModel, work: Callable[[], Any]) -> float:
    """Most memory during `work` above what there was before it, in MB, where a model is: what torch has allocated on a
    CUDA device, or what is resident, sampled every 2 ms."""
    if lm.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(lm.device)
        allocated = torch.cuda.memory_allocated(lm.device)
        work()
        return (torch.cuda.max_memory_allocated(lm.device) - allocated) / 1e6
    if platform.system() == "Linux":
        ctypes.CDLL(None).malloc_trim(0)  # what earlier work freed must not hide what this one takes
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
