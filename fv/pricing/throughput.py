"""How fast work is done: on a processor whose numbers are named, or as measured here (`fv.pricing.calibration`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fv.pricing.shape import Shape
from fv.pricing.work import PromptPass, Work, prompt_flops

Points = Mapping[int, float]
"""{rows, or prompt tokens, of a pass: seconds of a block, or of the whole unembedding}."""


class Throughput(Protocol):
    """How long work takes."""

    def seconds(self, work: Work, shape: Shape) -> float:
        """Seconds of one worker."""
        ...

    @property
    def about(self) -> str:
        """What it is, in a few words."""
        ...


@dataclass(frozen=True)
class Named:
    """A processor as its numbers say: a matrix product takes as long as its arithmetic, or as reading its weights.

    Attributes:
        flops: floating-point operations a second that large matrix products reach.
        bytes_per_second: how fast weights are read from memory; None where that is no matter.
    """

    flops: float
    bytes_per_second: float | None = None

    @property
    def about(self) -> str:
        reads = "" if self.bytes_per_second is None else f", weights read at {self.bytes_per_second / 1e9:g} GB/s"
        return f"{self.flops / 1e12:g} TFLOP/s{reads}"

    def seconds(self, work: Work, shape: Shape) -> float:
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
class Measured:
    """A processor as passes of the model's shape ran on it.

    Attributes:
        prompts: seconds of a block on prompts of so many tokens in all.
        rows: seconds of a block on so many rows, their attention included.
        readouts: seconds of reading so many rows.
        n_threads: threads that it ran with.
    """

    prompts: Points
    rows: Points
    readouts: Points
    n_threads: int

    @property
    def about(self) -> str:
        return f"passes of this shape timed here, {self.n_threads} threads"

    def seconds(self, work: Work, shape: Shape) -> float:
        del shape
        prompts = sum(times * _at(self.prompts, _tokens(each)) for each, times in work.prompts.items())
        rows = sum(times * _at(self.rows, n) for n, times in work.rows.items())
        return prompts + rows + sum(times * _at(self.readouts, n) for n, times in work.readouts.items())


def _tokens(each: PromptPass) -> int:
    return each.n_prompts * each.n_tokens


def _at(points: Points, n: int) -> float:
    """Seconds at `n`: between two sizes on the line that joins them; beyond the largest, as fast as that one."""
    sizes = sorted(points)
    if n > sizes[-1]:
        return points[sizes[-1]] * n / sizes[-1]
    return float(np.interp(n, sizes, [points[size] for size in sizes]))
