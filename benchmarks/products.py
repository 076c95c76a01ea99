"""Measure the speed of a model's matrix products by the number of rows: a limit for the speed of small passes."""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from benchmarks.measure import product_speed, seconds
from fv.interventions.readout import TILE_LOGITS
from fv.models.language_model import LanguageModel

ROWS = (8, 16, 32, 64, 128, 256, 1024)


@torch.no_grad()
def measure_products(lm: LanguageModel) -> list[dict[str, Any]]:
    """Measure the linear maps of all blocks, one after the other as in a pass, and the unembedding in tiles."""
    maps = [module for block in lm.blocks for module in block.modules() if isinstance(module, nn.Linear)]
    rows = []
    for n in ROWS:
        inputs = {width: _random(lm, n, width) for width in {m.in_features for m in maps}}
        blocks = seconds(lambda inputs=inputs: [m(inputs[m.in_features]) for m in maps])  # type: ignore[misc]  # mypy infers no type of a default
        readout = seconds(lambda n=n: _readout(lm, _random(lm, n, lm.d_model)))  # type: ignore[misc]  # mypy infers no type of a default
        peak = product_speed(lm)
        flops = 2 * n * sum(m.in_features * m.out_features for m in maps)
        vocabulary = 2 * n * lm.d_model * lm.vocabulary
        shares = {"blocks": flops / blocks / peak, "unembedding": vocabulary / readout / peak}
        whole = (flops + vocabulary) / (blocks + readout) / peak
        rows.append({"model": lm.name, "rows": n, **shares, "of_sgemm": whole})
    return rows


def _random(lm: LanguageModel, n: int, width: int) -> torch.Tensor:
    return torch.randn(n, width, device=lm.device, dtype=lm.dtype)


def _readout(lm: LanguageModel, hidden: torch.Tensor) -> None:
    width = TILE_LOGITS // len(hidden)
    for start in range(0, lm.vocabulary, width):
        linear(hidden, lm.unembedding.weight[start : start + width])
