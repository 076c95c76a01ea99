"""Seconds, matrix-product speed and memory of this process."""

import ctypes
import platform
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """The shortest of `repeats` timings: the one least disturbed."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def sgemm_speed(for_seconds: float = 0.5) -> float:
    """Sustained speed of square float32 matrix products, in FLOP/s.

    Sustained, because a single product may run in a burst of the clock that no longer work gets.
    """
    size = 2048
    a, b, into = (torch.randn(size, size) for _ in range(3))
    torch.mm(a, b, out=into)
    start, products = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < for_seconds:
        torch.mm(a, b, out=into)
        products += 1
    return 2 * size**3 * products / elapsed


def seconds_and_speed(work: Callable[[], Any], repeats: int = 3) -> tuple[float, float]:
    """The shortest timing of `work`, and the best matrix-product speed of those measured between the timings."""
    speeds, times = [sgemm_speed()], []
    for _ in range(repeats):
        times.append(seconds(work, 1))
        speeds.append(sgemm_speed())
    return min(times), max(speeds)


def extra_memory(work: Callable[[], Any]) -> float:
    """Most resident memory during `work` above what there was before it, in MB, sampled every 2 ms."""
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
