"""Throughput of a processor: from given numbers, or measured on this machine (`fv.pricing.calibration`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fv.pricing.operations import Operations, PromptPass, prompt_flops
from fv.pricing.shape import Shape

Points = Mapping[int, float]
"""{number of rows, or of prompt tokens, in a pass: seconds of a block, or of the whole unembedding}."""


class Throughput(Protocol):
    """Time that a processor takes for operations."""

    def seconds(self, work: Operations, shape: Shape) -> float:
        """Seconds that one worker takes."""
        ...

    @property
    def about(self) -> str:
        """Description in a few words."""
        ...


@dataclass(frozen=True)
class GivenThroughput:
    """Throughput from given numbers: a matrix product takes the time of its arithmetic, or of reading its weights.

    Attributes:
        flops: floating-point operations per second of large matrix products.
        bytes_per_second: speed at which weights are read from memory; None to ignore it.
    """

    flops: float
    bytes_per_second: float | None = None

    @property
    def about(self) -> str:
        reads = "" if self.bytes_per_second is None else f", weights read at {self.bytes_per_second / 1e9:g} GB/s"
        return f"{self.flops / 1e12:g} TFLOP/s{reads}"

    def seconds(self, work: Operations, shape: Shape) -> float:
        block, readout = shape.block_weights, shape.readout_weights
        taken = work.row_attention / self.flops
        for each, times in work.prompts.items():
            taken += times * self._longer(prompt_flops(shape, each), block * shape.itemsize)
        for n, times in work.rows.items():
            taken += times * self._longer(2 * n * block, block * shape.itemsize)
        for n, times in work.readouts.items():
            taken += times * self._longer(2 * n * readout, readout * shape.itemsize)
        return taken

    def _longer(self, flops: float, n_bytes: float) -> float:
        reading = 0.0 if self.bytes_per_second is None else n_bytes / self.bytes_per_second
        return max(flops / self.flops, reading)


@dataclass(frozen=True)
class MeasuredThroughput:
    """Throughput measured with passes of the model's shape.

    Attributes:
        prompts: {total number of prompt tokens: seconds of a block}.
        rows: {number of rows: seconds of a block, with the rows' attention}.
        readouts: {number of rows: seconds of reading them}.
        n_threads: number of threads.
    """

    prompts: Points
    rows: Points
    readouts: Points
    n_threads: int

    @property
    def about(self) -> str:
        return f"passes of this shape timed here, {self.n_threads} threads"

    def seconds(self, work: Operations, shape: Shape) -> float:
        del shape
        prompts = sum(times * _at(self.prompts, _tokens(each)) for each, times in work.prompts.items())
        rows = sum(times * _at(self.rows, n) for n, times in work.rows.items())
        return prompts + rows + sum(times * _at(self.readouts, n) for n, times in work.readouts.items())


def _tokens(each: PromptPass) -> int:
    return each.n_prompts * each.n_tokens


def _at(points: Points, n: int) -> float:
    """Seconds at size `n`, by linear interpolation; beyond the largest size, with that size's speed."""
    sizes = sorted(points)
    if n > sizes[-1]:
        return points[sizes[-1]] * n / sizes[-1]
    return float(np.interp(n, sizes, [points[size] for size in sizes]))
