"""What is read off a model's next-token scores, one pure function a quantity (docs/methods.md, "Metrics")."""

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
    """Number of other tokens rated as high as a token or higher, (...); 0 means that it alone is rated highest.

    Arguments as for `target_logprob`.
    """
    return (logits >= logits.gather(-1, target[..., None])).sum(-1) - 1


def is_tied(logits: Tensor, target: Tensor) -> Tensor:
    """Whether a token shares the highest logit with another one, (...) bool. Arguments as for `target_logprob`."""
    highest = logits.gather(-1, target[..., None])[..., 0] == logits.amax(-1)
    return highest & (rank_of(logits, target) > 0)


def logit_difference(logits: Tensor, target: int, wrong: Sequence[int]) -> Tensor | None:
    """Logit of the target minus the highest logit among `wrong` tokens, (...); None where there is no wrong one.

    Above zero, the target is the argmax among the relation's outputs: that is what candidate accuracy counts.
    """
    return logits[..., target] - logits[..., list(wrong)].amax(-1) if wrong else None


def n_agreeing(greedy: Sequence[int], answer: Sequence[int]) -> int:
    """How many of an answer's tokens greedy decoding says before it says another one.

    `greedy` is the argmax after the prompt, after the answer's first token, and so on: as long as it agrees, that is
    what greedy decoding says.
    """
    pairs = zip(greedy, answer, strict=False)
    return next((i for i, (said, due) in enumerate(pairs) if said != due), len(answer))


def kl_divergence(before: Tensor, after: Tensor) -> Tensor:
    """KL(before ‖ after) of next-token distributions, in nats, (...), float64.

    Args:
        before: logits, (..., vocabulary).
        after: logits of a shape that goes with it.
    """
    log_p, log_q = before.double().log_softmax(-1), after.double().log_softmax(-1)
    p = log_p.exp()
    # A token that cannot come adds nothing; and rounding can bring equal distributions a hair below zero.
    return torch.where(p == 0, 0.0, p * (log_p - log_q)).sum(-1).clamp_min(0)


def majority_accuracy(seen: Sequence[Hashable], asked: Sequence[Hashable]) -> float:
    """Accuracy on `asked` of always answering the most frequent of the `seen` outputs, the first of equally many.

    Raises:
        ValueError: there is nothing to count.
    """
    if not seen or not asked:
        raise ValueError("majority_accuracy needs outputs on both sides")
    answer = Counter(seen).most_common(1)[0][0]
    return float(np.mean([output == answer for output in asked]))


def cosine(one: Tensor, other: Tensor) -> float:
    """Cosine of the angle between two vectors; 0 where one of them is zero."""
    norms = float(one.double().norm() * other.double().norm())
    return float(one.double() @ other.double()) / norms if norms else 0.0
