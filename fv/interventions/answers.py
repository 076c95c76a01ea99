"""Whole answers under edits of the last prompt token: what the model would say, and how likely the right answer is.

One pass a batch of prompts of equal length gives every metric of every edit: the answer's tokens stand behind the
prompt, so each position says what greedy decoding would say next as long as it agreed so far.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from fv.interventions.edits import LastTokenEdit
from fv.interventions.engine import Advance, ignore_progress
from fv.interventions.generation import end_tokens
from fv.interventions.metrics import (
    answer_logprob,
    kl_divergence,
    logit_difference,
    n_agreeing,
    rank_of,
    target_logprob,
)
from fv.interventions.passes import in_engine_pass
from fv.interventions.prompt_cache import PromptCache
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt

MOST_LOGITS = 2**25
"""Logits in one pass: 128 MB in float32."""


@dataclass(frozen=True)
class AnswerScores:
    """Scores of answers; each array is (n_prompts, n_edits).

    Attributes:
        logprob: log probability of the answer's first token.
        rank: tokens rated above it.
        logit_difference: its logit minus the best wrong output's; NaN where there is none.
        answer_logprob: log probability of the whole answer.
        exact_match: whether greedy decoding says the answer's tokens and then ends the answer.
        text: what greedy decoding says, up to the first token that is not the answer's.
    """

    logprob: np.ndarray
    rank: np.ndarray
    logit_difference: np.ndarray
    answer_logprob: np.ndarray
    exact_match: np.ndarray
    text: np.ndarray


@in_engine_pass
def score_answers(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    edits: Sequence[LastTokenEdit],
    ending: str,
    max_rows: int,
    advance: Advance = ignore_progress,
) -> AnswerScores:
    """Score the answers behind all prompts under each of `edits`.

    Args:
        lm: the model.
        prompts: the prompts with their whole answers.
        edits: what is done to the last prompt token; None for nothing.
        ending: the text that ends an answer, as the template has it; the model's end-of-text token ends it too.
        max_rows: most cached token positions in one pass.
        advance: progress callback, called with (prompt, edit) rows done.
    """
    ends = _ends_answer(lm, ending)
    found: list[list[AnswerScores]] = [[] for _ in prompts]  # of each prompt, chunk by chunk of the edits
    for batch in _batches(lm, [p.token_ids for p in prompts], [len(p.answer) for p in prompts], edits, max_rows):
        cache = PromptCache(lm, [prompts[i].token_ids for i in batch])
        longest = max(len(prompts[i].answer) for i in batch)
        # What comes after an answer is never looked at: any valid token id does.
        behind = torch.tensor([[*prompts[i].answer, *[0] * (longest - len(prompts[i].answer))] for i in batch])
        for _, chunk in _chunks(lm, len(cache.ids[0]), longest, edits, max_rows):
            logits = cache.logits(chunk, behind)  # (batch, n_chunk, 1 + longest, vocabulary)
            for logits_here, i in zip(logits, batch, strict=True):
                found[i].append(_score(lm, logits_here, prompts[i], ends))
            advance(len(batch) * len(chunk))
    return _joined([_joined(parts, np.concatenate) for parts in found], np.stack)


def _score(lm: LanguageModel, logits: Tensor, prompt: Prompt, ends: Callable[[int], bool]) -> AnswerScores:
    """One prompt's scores under some edits, each (n_edits,); `logits` is (n_edits, n_positions, vocabulary)."""
    first, n = logits[:, 0], len(prompt.answer)
    targets = torch.full((len(logits),), prompt.target, device=logits.device)
    greedy = logits[:, : n + 1].argmax(-1).tolist()  # (n_edits, n + 1)
    agreeing = [n_agreeing(said, prompt.answer) for said in greedy]
    both = list(zip(greedy, agreeing, strict=True))
    return AnswerScores(
        logprob=target_logprob(first, targets).double().cpu().numpy(),
        rank=rank_of(first, targets).cpu().numpy(),
        logit_difference=logit_difference(first, prompt.target, prompt.wrong).double().cpu().numpy(),
        answer_logprob=answer_logprob(logits, prompt.answer).double().cpu().numpy(),
        exact_match=np.array([good == n and ends(said[n]) for said, good in both]),
        text=np.array([lm.tokenizer.decode(said[: good + 1]) for said, good in both], dtype=object),
    )


def _joined(parts: Sequence[AnswerScores], join: Callable[[list[np.ndarray]], np.ndarray]) -> AnswerScores:
    names = [field.name for field in fields(AnswerScores)]
    return AnswerScores(**{name: join([getattr(part, name) for part in parts]) for name in names})


@in_engine_pass
def injection_cost(
    lm: LanguageModel, texts: Sequence[Sequence[int]], edits: Sequence[LastTokenEdit], max_rows: int
) -> np.ndarray:
    """KL(unedited ‖ edited) of the next token behind each text, in nats: (n_texts, n_edits)."""
    costs = np.zeros((len(texts), len(edits)))
    for batch in _batches(lm, texts, [0] * len(texts), edits, max_rows):
        cache = PromptCache(lm, [texts[i] for i in batch])
        before = cache.logits([None])[:, :, 0]  # (batch, 1, vocabulary)
        for start, chunk in _chunks(lm, len(cache.ids[0]), 0, edits, max_rows):
            after = cache.logits(chunk)[:, :, 0]  # (batch, n_chunk, vocabulary)
            for i, own, edited in zip(batch, before, after, strict=True):  # one by one, which bounds memory
                costs[i, start : start + len(chunk)] = kl_divergence(own, edited).cpu()
    return costs


def _batches(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    n_behind: Sequence[int],
    edits: Sequence[LastTokenEdit],
    max_rows: int,
) -> Iterator[list[int]]:
    """Prompts of equal length, as many as fit a pass with all edits, at least one."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for i, ids in enumerate(prompts):
        by_length[len(ids)].append(i)
    for tokens, together in sorted(by_length.items()):
        each = _rows_that_fit(lm, tokens, max(n_behind[i] for i in together), max_rows)
        most = max(1, each // max(1, len(edits)))
        yield from (together[start : start + most] for start in range(0, len(together), most))


def _chunks(
    lm: LanguageModel, tokens: int, n_behind: int, edits: Sequence[LastTokenEdit], max_rows: int
) -> Iterator[tuple[int, Sequence[LastTokenEdit]]]:
    """Edits that fit a pass, each chunk with its start."""
    step = _rows_that_fit(lm, tokens, n_behind, max_rows)
    return ((start, edits[start : start + step]) for start in range(0, len(edits), step))


def _rows_that_fit(lm: LanguageModel, tokens: int, n_behind: int, max_rows: int) -> int:
    cached = max_rows // (tokens + n_behind)
    return max(1, min(cached, MOST_LOGITS // (lm.vocabulary * (1 + n_behind))))


def _ends_answer(lm: LanguageModel, ending: str) -> Callable[[int], bool]:
    """Whether a token ends an answer: the end of text, or one that starts as `ending` does."""
    stops = end_tokens(lm)
    return lambda token: token in stops or not ending or lm.tokenizer.decode([token]).startswith(ending[0])


def score_columns(scores: AnswerScores, edit: int) -> dict[str, np.ndarray]:
    """One edit's scores by name, each (n_prompts,)."""
    return {field.name: getattr(scores, field.name)[:, edit] for field in fields(AnswerScores)}
