"""Readout of scores from the residual stream after the last block, without all logits in memory.

Logits are computed and reduced in tiles that stay in a CPU's cache: log-softmax needs only their running maximum and
sum of exponentials (Milakov & Gimelshein, "Online normalizer calculation for softmax", 2018), and a rank only the
number of logits that reach the target's. If the logits of a SmolLM2 head sweep were written to memory, reading them
back would take longer than computing them.

Rows are (n, d_model), before the final norm; results have one value per row.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fv.interventions.engine import TargetScores
from fv.models.language_model import LanguageModel
from fv.models.placement import at_hand

TILE_ROWS = 1024
TILE_LOGITS = 2**18
"""Most rows, and most logits (1 MB in float32), in one tile."""


class Tile(NamedTuple):
    """Size of one read; it changes only rounding.

    Attributes:
        rows: largest number of rows of one part; parts are read one after the other.
        logits: largest number of logits in memory, of one part's rows and a range of the vocabulary.
    """

    rows: int = TILE_ROWS
    logits: int = TILE_LOGITS


TILE = Tile()


class TokenReads(NamedTuple):
    """The ratings of a token for each row, and the row's best token; each (n,), on the CPU.

    Attributes:
        scores: the scores of the token.
        best: the id of the likeliest token, the first one of a tie.
    """

    scores: TargetScores
    best: Tensor


class BestTokens(NamedTuple):
    """The best token of each row; each (n,), on the CPU.

    Attributes:
        token: the id of the likeliest token, the first one of a tie.
        tied: whether several tokens are equally likely.
        finite: whether the row's scores are finite; if not, the other two mean nothing.
    """

    token: Tensor
    tied: Tensor
    finite: Tensor


def target_scores(lm: LanguageModel, rows: Tensor, targets: Tensor, tile: Tile = TILE) -> TargetScores:
    """Log probability and rank of each row's target, (n,)."""
    with at_hand(lm.unembedding):
        scored = [_score(lm, *part, tile, ranked=True) for part in _tiled(rows, targets, tile)]
    return _scores_of(scored)


def target_logprobs(lm: LanguageModel, rows: Tensor, targets: Tensor, tile: Tile = TILE) -> Tensor:
    """Log probability, (n,) float64 on the CPU, of each row's target, (n,)."""
    with at_hand(lm.unembedding):
        scored = [_score(lm, *part, tile)[0] for part in _tiled(rows, targets, tile)]
    return torch.cat(scored).double().cpu()


def read_tokens(lm: LanguageModel, rows: Tensor, targets: Tensor, tile: Tile = TILE) -> TokenReads:
    """Each row's target, (n,), and its best token."""
    with at_hand(lm.unembedding):
        scored = [_score(lm, *part, tile, ranked=True, wants_best=True) for part in _tiled(rows, targets, tile)]
    return TokenReads(_scores_of(scored), torch.cat([best for *_, best in scored]).cpu())


def best_tokens(lm: LanguageModel, rows: Tensor, tile: Tile = TILE) -> BestTokens:
    """Each row's best token."""
    found = []
    with at_hand(lm.unembedding):
        for part in _parts(rows, tile):
            hidden = _normed(lm, part)
            best, count = _Best(hidden), hidden.new_zeros(len(part), dtype=torch.long)
            for ids, logits in _tiles(lm, hidden, tile):
                before = best.logit
                best.update(ids.start, logits)
                # The number of tokens with the best logit so far.
                count = torch.where(best.logit == before, count, 0) + (logits == best.logit[:, None]).sum(-1)
            found.append((best.token, count > 1, best.logit.isfinite()))
    if not found:
        nothing = torch.empty(0, dtype=torch.bool)
        return BestTokens(nothing.long(), nothing, nothing)
    return BestTokens(*(torch.cat(part).cpu() for part in zip(*found, strict=True)))


def logits_at(lm: LanguageModel, rows: Tensor, token_ids: Tensor) -> Tensor:
    """The rows' logits of the given tokens, (n, n_tokens), float32 or wider."""
    with at_hand(lm.unembedding):
        hidden = _normed(lm, rows)
        logits = lm.logits(hidden, token_ids.to(hidden.device))
    return logits.to(_exact(logits))


def divergences(lm: LanguageModel, own: Tensor, rows: Tensor, tile: Tile = TILE) -> Tensor:
    """KL(own ‖ row) of next-token distributions, in nats, (n,) float64 on the CPU; `own` is one row, (1, d_model)."""
    with at_hand(lm.unembedding):
        hidden = _normed(lm, own)
        own_total = _log_total(lm, hidden, tile)  # (1, 1)
        found = [_divergence(lm, hidden, own_total, part, tile) for part in _parts(rows, tile)]
    return torch.cat(found).cpu()


def _divergence(lm: LanguageModel, own: Tensor, own_total: Tensor, rows: Tensor, tile: Tile) -> Tensor:
    hidden = _normed(lm, rows)
    # In float64, because the difference of two large sums may be small.
    total = hidden.new_full((len(hidden), 1), -torch.inf, dtype=torch.float64)
    difference = torch.zeros_like(total)  # the mean difference of logits under p
    for ids, logits in _tiles(lm, hidden, tile):
        wide, own_logits = logits.double(), lm.logits(own, ids).double()  # (n, width), (1, width)
        total = torch.logaddexp(total, wide.logsumexp(-1, keepdim=True))
        p = (own_logits - own_total).exp()
        # A token of probability zero adds nothing, whatever its logits are.
        difference += torch.where(p == 0, 0.0, p * (own_logits - wide)).sum(-1, keepdim=True)
    # Rounding can bring equal distributions slightly below zero.
    return (difference + total - own_total).clamp_min(0)[:, 0]


def _log_total(lm: LanguageModel, hidden: Tensor, tile: Tile) -> Tensor:
    """Log of the sum of exponentials of all logits, (n, 1) float64."""
    total = hidden.new_full((len(hidden), 1), -torch.inf, dtype=torch.float64)
    for _, logits in _tiles(lm, hidden, tile):
        total = torch.logaddexp(total, logits.double().logsumexp(-1, keepdim=True))
    return total


def _score(
    lm: LanguageModel, rows: Tensor, targets: Tensor, tile: Tile, *, ranked: bool = False, wants_best: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log probability, rank and tie of each target, and the row's best token, each (n,).

    Rank and tie are valid only if `ranked`, and the best token only if `wants_best`. The caller holds the unembedding
    in memory: if it is offloaded, it is then not read for every tile.
    """
    hidden = _normed(lm, rows)
    targets = targets.to(hidden.device)
    target_logit = lm.logits_of(hidden, targets)[:, None]  # (n, 1)
    target_logit = target_logit.to(_exact(target_logit))
    highest = torch.full_like(target_logit, -torch.inf)
    total = torch.zeros_like(target_logit)  # sum of exp(logit - highest)
    reaching = torch.zeros_like(target_logit)  # number of tokens rated as high as the target or higher, itself included
    best = _Best(hidden)
    for ids, logits in _tiles(lm, hidden, tile):
        # The target's logit in this tile comes from another product and may differ in its last bit, so it is replaced.
        inside = ((targets >= ids.start) & (targets < ids.stop)).nonzero()[:, 0]
        logits[inside, targets[inside] - ids.start] = target_logit[inside, 0]
        if ranked:
            # Compared into floats, because summing booleans is ten times slower on a CPU.
            reaching += torch.ge(logits, target_logit, out=torch.empty_like(logits)).sum(-1, keepdim=True)
        if wants_best:
            best.update(ids.start, logits)
        higher = torch.maximum(highest, logits.amax(-1, keepdim=True))
        total = total * (highest - higher).exp() + logits.sub_(higher).exp_().sum(-1, keepdim=True)
        highest = higher
    logprob = target_logit - highest - total.log()
    tied = (reaching > 1) & (target_logit == highest)
    return logprob[:, 0], reaching[:, 0] - 1, tied[:, 0], best.token


class _Best:
    """The best token of each row so far, and its logit, which is NaN once a logit was NaN."""

    def __init__(self, hidden: Tensor) -> None:
        self.logit = hidden.new_full((len(hidden),), -torch.inf, dtype=_exact(hidden))
        self.token = hidden.new_zeros(len(hidden), dtype=torch.long)

    def update(self, start: int, logits: Tensor) -> None:
        """Include a tile's logits, (n, width), whose first token is `start`."""
        logit, token = logits.max(-1)
        better = logit > self.logit  # of equal ones the first stays
        self.logit = torch.maximum(logit, self.logit)
        self.token = torch.where(better, start + token, self.token)


def _tiles(lm: LanguageModel, hidden: Tensor, tile: Tile) -> Iterator[tuple[slice, Tensor]]:
    """Yield the logits, (n, width), of one range of the vocabulary after the other; the caller may change them."""
    width = max(1, tile.logits // max(1, len(hidden)))
    for start in range(0, lm.vocabulary, width):
        ids = slice(start, min(start + width, lm.vocabulary))
        logits = lm.logits(hidden, ids)
        yield ids, logits.to(_exact(logits))


def _normed(lm: LanguageModel, rows: Tensor) -> Tensor:
    """Rows after the final norm, (n, d_model), on the unembedding's device."""
    return lm.final_norm(rows).to(lm.unembedding.weight.device)


def _exact(values: Tensor) -> torch.dtype:
    """The number format for sums of values: float32 or wider."""
    return torch.promote_types(values.dtype, torch.float32)


def _parts(rows: Tensor, tile: Tile) -> tuple[Tensor, ...]:
    return rows.chunk(-(-len(rows) // tile.rows)) if len(rows) else ()


def _tiled(rows: Tensor, targets: Tensor, tile: Tile) -> list[tuple[Tensor, Tensor]]:
    return list(zip(_parts(rows, tile), _parts(targets, tile), strict=True))


def _scores_of(scored: list[tuple[Tensor, Tensor, Tensor, Tensor]]) -> TargetScores:
    logprob, rank, tied, _ = (torch.cat(parts) for parts in zip(*scored, strict=True))
    return TargetScores(logprob.double().cpu(), rank.long().cpu(), tied.cpu())
