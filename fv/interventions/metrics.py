"""Metrics of a model's next-token scores, one pure function per metric (docs/methods.md, "Metrics")."""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor


def target_logprob(logits: Tensor, target: Tensor) -> Tensor:
    """Natural log probability of a token.

    Args:
        logits: (..., vocabulary).
        target: (...), token ids.

    Returns:
        (...).
    """
    return logits.gather(-1, target[..., None])[..., 0] - logits.logsumexp(-1)


def rank_of(logits: Tensor, target: Tensor) -> Tensor:
    """Number of other tokens that are rated as high as a token or higher, (...); 0 means that it alone is highest.

    Arguments as for `target_logprob`.
    """
    return (logits >= logits.gather(-1, target[..., None])).sum(-1) - 1


def is_tied(logits: Tensor, target: Tensor) -> Tensor:
    """True where a token shares the highest logit with another one, (...) bool. Arguments as for `target_logprob`."""
    highest = logits.gather(-1, target[..., None])[..., 0] == logits.amax(-1)
    return highest & (rank_of(logits, target) > 0)


def logit_difference(logits: Tensor, target: int, wrong: Sequence[int]) -> Tensor | None:
    """Logit of the target minus the highest logit among `wrong` tokens, (...); None if there are no wrong tokens.

    If it is above zero, the target is the argmax among the relation's outputs; candidate accuracy counts this.
    """
    return logits[..., target] - logits[..., list(wrong)].amax(-1) if wrong else None


def n_agreeing(greedy: Sequence[int], answer: Sequence[int]) -> int:
    """Number of an answer's tokens that greedy decoding gives before it gives another one.

    `greedy` has the argmax after the prompt, after the answer's first token, and so on: as long as these agree with the
    answer, they are the tokens of greedy decoding.
    """
    pairs = zip(greedy, answer, strict=False)
    return next((i for i, (said, due) in enumerate(pairs) if said != due), len(answer))


def kl_divergence(before: Tensor, after: Tensor) -> Tensor:
    """KL(before ‖ after) of next-token distributions, in nats: (...) float64.

    Args:
        before: logits, (..., vocabulary).
        after: logits of a shape that broadcasts with `before`.
    """
    log_p, log_q = before.double().log_softmax(-1), after.double().log_softmax(-1)
    p = log_p.exp()
    # A token of probability zero adds nothing; rounding can bring equal distributions slightly below zero.
    return torch.where(p == 0, 0.0, p * (log_p - log_q)).sum(-1).clamp_min(0)


def majority_accuracy(seen: Sequence[Hashable], asked: Sequence[Hashable]) -> float:
    """Accuracy on `asked` of always giving the most frequent of the `seen` outputs, the first one of a tie.

    Raises:
        ValueError: `seen` or `asked` is empty.
    """
    if not seen or not asked:
        raise ValueError("majority_accuracy needs outputs on both sides")
    answer = Counter(seen).most_common(1)[0][0]
    return float(np.mean([output == answer for output in asked]))


def cosine(one: Tensor, other: Tensor) -> float:
    """Cosine of the angle between two vectors; 0 if one of them is zero."""
    norms = float(one.double().norm() * other.double().norm())
    return float(one.double() @ other.double()) / norms if norms else 0.0
