"""Scores of whole answers under edits of the last prompt token, and the model's own answers.

The answer's tokens follow the prompt in one pass. At each position, the likeliest next token is the one of greedy
decoding, as long as greedy decoding has agreed with the answer before (`fv.interventions.engine.Engine.answers`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from fv.interventions.edit import LastTokenEdit
from fv.interventions.engine import AnswerReads, Engine
from fv.interventions.generation import end_tokens
from fv.interventions.metrics import n_agreeing
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.progress import Advance, ignore_progress


@dataclass(frozen=True)
class AnswerScores:
    """Scores of answers; each array is (n_prompts, n_edits).

    Attributes:
        logprob: log probability of the answer's first token.
        rank: number of other tokens that are rated as high as that token or higher.
        tied: whether that token shares the highest score with another one.
        logit_difference: its logit minus the best wrong output's; NaN (an empty cell of a table) without wrong outputs.
        answer_logprob: log probability of the whole answer.
        exact_match: whether greedy decoding gives the answer's tokens and then ends the answer, without a tie.
        text: the text of greedy decoding, up to the first token that is not the answer's; of equally likely tokens, the
            first is taken.
    """

    logprob: np.ndarray
    rank: np.ndarray
    tied: np.ndarray
    logit_difference: np.ndarray
    answer_logprob: np.ndarray
    exact_match: np.ndarray
    text: np.ndarray


def score_answers(
    engine: Engine,
    prompts: Sequence[Prompt],
    edits: Sequence[LastTokenEdit],
    ending: str,
    advance: Advance = ignore_progress,
) -> AnswerScores:
    """Score the answers of all prompts under each of `edits`.

    Args:
        engine: runs the prompts.
        prompts: the prompts with their whole answers.
        edits: edits of the last prompt token; None for no edit.
        ending: the text that ends an answer in the template; the model's end-of-text token ends it too.
        advance: progress callback, called with (prompt, edit) rows done.
    """
    ends = _ends_answer(engine.lm, ending)
    reads = engine.answers(prompts, edits, advance)
    rows = [_scores_of(engine.lm, read, prompt, ends) for read, prompt in zip(reads, prompts, strict=True)]
    names = [field.name for field in fields(AnswerScores)]
    return AnswerScores(**{name: np.stack([getattr(row, name) for row in rows]) for name in names})


def _scores_of(lm: LanguageModel, read: AnswerReads, prompt: Prompt, ends: Callable[[int], bool]) -> AnswerScores:
    """One prompt's scores, each (n_edits,)."""
    said, n, scores = read.likeliest.tolist(), len(prompt.answer), read.scores
    both = [(tokens, n_agreeing(tokens, prompt.answer)) for tokens in said]
    untied = scores.correct.all(-1) & ~read.end_tied
    ended = np.array([good == n and ends(tokens[n]) for tokens, good in both])
    none = np.full(len(said), np.nan)
    return AnswerScores(
        logprob=scores.logprob[:, 0].numpy(),
        rank=scores.rank[:, 0].numpy(),
        tied=scores.tied[:, 0].numpy(),
        logit_difference=none if read.logit_difference is None else read.logit_difference.numpy(),
        answer_logprob=scores.logprob.sum(-1).numpy(),
        exact_match=ended & untied.numpy(),
        text=np.array([lm.tokenizer.decode(tokens[: good + 1]) for tokens, good in both], dtype=object),
    )


def _ends_answer(lm: LanguageModel, ending: str) -> Callable[[int], bool]:
    """A test for tokens that end an answer: end-of-text tokens, and those that start with `ending`'s first letter."""
    stops = end_tokens(lm)
    return lambda token: token in stops or not ending or lm.tokenizer.decode([token]).startswith(ending[0])


def score_columns(scores: AnswerScores, edit: int) -> dict[str, np.ndarray]:
    """One edit's scores by name, each (n_prompts,)."""
    return {field.name: getattr(scores, field.name)[:, edit] for field in fields(AnswerScores)}
