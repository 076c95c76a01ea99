"""Scores of rows of edited prompts, for every engine that runs rows.

Rows are (n_prompts, n_edits, n_positions, d_model), before the final norm.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fv.interventions import readout
from fv.interventions.engine import NOT_ASKED, NOT_FINITE, AnswerReads
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt


def targets_of(lm: LanguageModel, rows: Tensor, prompts: Sequence[Prompt]) -> Tensor:
    """Log probability of each prompt's target after its last token: (n_prompts, n_edits) float64."""
    targets = torch.tensor([p.target for p in prompts])[:, None].expand(rows.shape[:2])
    return readout.target_logprobs(lm, rows[:, :, 0].flatten(0, 1), targets.flatten()).view(targets.shape)


def answers_of(lm: LanguageModel, rows: Tensor, prompts: Sequence[Prompt]) -> list[AnswerReads]:
    """Ratings of each prompt's answer of n tokens; `rows` has n + 1 positions: the last prompt token and the answer."""
    answers = torch.tensor([p.answer for p in prompts])[:, None].expand(-1, rows.shape[1], -1)
    within = rows[:, :, :-1]  # (n_prompts, n_edits, n, d_model)
    scores, best = readout.read_tokens(lm, within.flatten(0, 2), answers.flatten())
    best = best.view(answers.shape)
    last, end_tied = torch.full(best.shape[:2], NOT_ASKED), torch.zeros(best.shape[:2], dtype=torch.bool)
    # The token after the answer is needed only if greedy decoding gives the whole answer.
    agree = (best == answers).all(-1)
    end = readout.best_tokens(lm, rows[:, :, -1][agree.to(rows.device)])
    last[agree], end_tied[agree] = end.token.where(end.finite, NOT_FINITE), end.tied
    likeliest = torch.cat([best, last[..., None]], -1)  # (n_prompts, n_edits, n + 1)
    scores = scores.reshape(*answers.shape)
    return [
        AnswerReads(scores[i], _logit_differences(lm, rows[i, :, 0], prompt), likeliest[i], end_tied[i])
        for i, prompt in enumerate(prompts)
    ]


def _logit_differences(lm: LanguageModel, rows: Tensor, prompt: Prompt) -> Tensor | None:
    """The target's logit minus the highest wrong one, (n_edits,), if there is one; `rows` is (n_edits, d_model)."""
    if not prompt.wrong:
        return None
    logits = readout.logits_at(lm, rows, torch.tensor([prompt.target, *prompt.wrong]))  # (n_edits, 1 + n_wrong)
    return (logits[:, 0] - logits[:, 1:].amax(-1)).double().cpu()
