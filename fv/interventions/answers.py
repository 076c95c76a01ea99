"""Whole answers under edits of the last prompt token: what the model would say, and how likely the right answer is.

One pass a batch of prompts of equal length gives every metric of every edit: the answer's tokens stand behind the
prompt, so each position says what greedy decoding would say next as long as it agreed so far.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fv.interventions.edits import LastTokenEdit
from fv.interventions.engine import Advance, ignore_progress
from fv.interventions.metrics import (
    answer_logprob,
    kl_divergence,
    logit_difference,
    n_agreeing,
    rank_of,
    target_logprob,
)
from fv.interventions.prompt_cache import PromptCache
from fv.models.language_model import LanguageModel

MOST_LOGITS = 2**25
"""Logits in one pass: 128 MB in float32."""


class Question(NamedTuple):
    """A prompt and what is right and wrong behind it.

    Attributes:
        token_ids: the prompt.
        answer: the right answer's token ids.
        wrong: first tokens of the relation's outputs that are wrong here.
    """

    token_ids: tuple[int, ...]
    answer: tuple[int, ...]
    wrong: tuple[int, ...]


@dataclass(frozen=True)
class AnswerScores:
    """Scores of answers; each array is (n_questions, n_edits).

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


@torch.no_grad()
def score_answers(
    lm: LanguageModel,
    questions: Sequence[Question],
    edits: Sequence[LastTokenEdit],
    ending: str,
    max_rows: int,
    advance: Advance = ignore_progress,
) -> AnswerScores:
    """Score the answers of all questions under each of `edits`.

    Args:
        lm: the model.
        questions: the prompts with their answers.
        edits: what is done to the last prompt token; None for nothing.
        ending: the text that ends an answer, as the template has it; the model's end-of-text token ends it too.
        max_rows: most cached token positions in one pass.
        advance: progress callback, called with (question, edit) rows done.
    """
    shape = (len(questions), len(edits))
    scores = AnswerScores(
        *(np.zeros(shape, dtype=t) for t in (np.float64, np.int64, np.float64, np.float64, np.bool_, object))
    )
    ends = _ends_answer(lm, ending)
    for batch in _batches(lm, [q.token_ids for q in questions], [len(q.answer) for q in questions], edits, max_rows):
        cache = PromptCache(lm, [questions[i].token_ids for i in batch])
        longest = max(len(questions[i].answer) for i in batch)
        # What comes after an answer is never looked at: any valid token id does.
        behind = torch.tensor([[*questions[i].answer, *[0] * (longest - len(questions[i].answer))] for i in batch])
        for start, chunk in _chunks(lm, len(cache.ids[0]), longest, edits, max_rows):
            logits = cache.logits(chunk, behind)  # (batch, n_chunk, 1 + longest, vocabulary)
            for logits_here, i in zip(logits, batch, strict=True):
                _fill(scores, i, slice(start, start + len(chunk)), logits_here, questions[i], lm, ends)
            advance(len(batch) * len(chunk))
    return scores


def _fill(
    scores: AnswerScores,
    i: int,
    columns: slice,
    logits: Tensor,
    question: Question,
    lm: LanguageModel,
    ends: Callable[[int], bool],
) -> None:
    """Write one question's scores under some edits; `logits` is (n_edits, n_positions, vocabulary)."""
    first, target = logits[:, 0], question.answer[0]
    targets = torch.full((len(logits),), target, device=logits.device)
    scores.logprob[i, columns] = target_logprob(first, targets).double().cpu()
    scores.rank[i, columns] = rank_of(first, targets).cpu()
    scores.logit_difference[i, columns] = logit_difference(first, target, question.wrong).double().cpu()
    scores.answer_logprob[i, columns] = answer_logprob(logits, question.answer).double().cpu()
    n = len(question.answer)
    greedy = logits[:, : n + 1].argmax(-1).tolist()  # (n_edits, n + 1)
    agreeing = [n_agreeing(said, question.answer) for said in greedy]
    scores.exact_match[i, columns] = [good == n and ends(said[n]) for good, said in zip(agreeing, greedy, strict=True)]
    scores.text[i, columns] = [
        lm.tokenizer.decode(said[: good + 1]) for good, said in zip(agreeing, greedy, strict=True)
    ]


@torch.no_grad()
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
    of_text: Any = getattr(lm.model.generation_config, "eos_token_id", None)
    stops = set(of_text if isinstance(of_text, list) else [of_text]) | {getattr(lm.tokenizer, "eos_token_id", None)}
    return lambda token: token in stops or not ending or lm.tokenizer.decode([token]).startswith(ending[0])


def score_columns(scores: AnswerScores, edit: int) -> dict[str, np.ndarray]:
    """One edit's scores by name, each (n_questions,)."""
    return {field.name: getattr(scores, field.name)[:, edit] for field in fields(AnswerScores)}
