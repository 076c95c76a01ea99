"""Scores of target tokens straight from the residual stream, without a row's whole vocabulary in memory.

Logits are made and reduced in tiles that stay in a CPU's cache: log-softmax needs only their running maximum and
sum of exponentials (Milakov & Gimelshein, "Online normalizer calculation for softmax", 2018), and a rank only the
number of logits above the target's. Written out whole, the logits of a SmolLM2 head sweep take longer to read back
than to compute.
"""

import torch
from torch import Tensor

from fv.interventions.engine import TargetScores
from fv.models.language_model import LanguageModel
from fv.models.placement import at_hand

TILE_ROWS = 1024
TILE_LOGITS = 2**21
"""Rows, and logits (8 MB in float32), in one tile."""


def target_scores(lm: LanguageModel, rows: Tensor, targets: Tensor) -> TargetScores:
    """Log probability and rank of each row's target; rows is (n, d_model), before the final norm, targets (n,)."""
    with at_hand(lm.unembedding):
        scored = [_score(lm, *part, ranked=True) for part in _tiled(rows, targets)]
    logprob, above = (torch.cat(parts) for parts in zip(*scored, strict=True))
    return TargetScores(logprob.double().cpu(), above.long().cpu())


def target_logprobs(lm: LanguageModel, rows: Tensor, targets: Tensor) -> Tensor:
    """Log probability, (n,) float64 on the CPU, of each row's target; arguments as for `target_scores`."""
    with at_hand(lm.unembedding):
        scored = [_score(lm, *part, ranked=False)[0] for part in _tiled(rows, targets)]
    return torch.cat(scored).double().cpu()


def _tiled(rows: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
    n_tiles = -(-len(rows) // TILE_ROWS)
    return list(zip(rows.chunk(n_tiles), targets.chunk(n_tiles), strict=True))


def _score(lm: LanguageModel, rows: Tensor, targets: Tensor, *, ranked: bool) -> tuple[Tensor, Tensor]:
    """Log probability of each target, and number of tokens rated above it (zeros unless `ranked`), each (n,).

    The unembedding is at hand: it may be a file's, which is not read for every tile.
    """
    head = lm.unembedding.weight.device
    hidden, targets = lm.final_norm(rows).to(head), targets.to(head)  # (n, d_model), (n,)
    exact = torch.promote_types(hidden.dtype, torch.float32)
    target_logit = lm.logits_of(hidden, targets).to(exact)[:, None]  # (n, 1)
    highest = torch.full_like(target_logit, -torch.inf)
    total = torch.zeros_like(target_logit)  # sum of exp(logit - highest)
    above = torch.zeros_like(target_logit)
    width = max(1, TILE_LOGITS // len(rows))
    for start in range(0, lm.vocabulary, width):
        tile = slice(start, min(start + width, lm.vocabulary))
        logits = lm.logits(hidden, tile).to(exact)  # (n, width)
        # The target's logit in here comes from another product and may differ in its last bit: one value serves all.
        inside = ((targets >= tile.start) & (targets < tile.stop)).nonzero()[:, 0]
        logits[inside, targets[inside] - start] = target_logit[inside, 0]
        if ranked:
            # Comparing into floats, because summing booleans is ten times slower on a CPU.
            above += torch.gt(logits, target_logit, out=torch.empty_like(logits)).sum(-1, keepdim=True)
        higher = torch.maximum(highest, logits.amax(-1, keepdim=True))
        total = total * (highest - higher).exp() + logits.sub_(higher).exp_().sum(-1, keepdim=True)
        highest = higher
    logprob = target_logit - highest - total.log()
    return logprob[:, 0], above[:, 0]
