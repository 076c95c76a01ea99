"""The naive engine, the oracle: one full forward, with a batch of one, for every edit. Slow and obviously right.

`fv.interventions.shared_prefix` must agree with it; tests and the self-check at load compare the two.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor

from fv.interventions.edit import LastTokenEdit
from fv.interventions.engine import (
    NOT_ASKED,
    NOT_FINITE,
    AnswerReads,
    Cell,
    Head,
    LastToken,
    PatchScores,
    TargetScores,
    check_vectors,
)
from fv.interventions.gradients import NOT_TRAINED, check_has_gradients
from fv.interventions.hooks import Change, edit_block_output, edit_head_outputs, record_head_outputs, record_residuals
from fv.interventions.metrics import is_tied, kl_divergence, logit_difference, n_agreeing, target_logprob
from fv.interventions.objectives import FullForwards
from fv.interventions.part_outputs import outputs_of_prompt
from fv.interventions.passes import in_engine_pass
from fv.interventions.row_edits import edited_rows
from fv.interventions.training import Descent, EditOf, Objective, Parameters, Trained, check_prompts, train
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.progress import Advance, ignore_progress


class NaiveEngine:
    """Implements `fv.interventions.engine.Engine` with nothing shared between forwards."""

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm

    def batches(self, prompts: Sequence[Prompt], rows_each: int) -> list[slice]:
        del rows_each
        return [slice(i, i + 1) for i in range(len(prompts))]

    @in_engine_pass
    def last_token(self, prompts: Sequence[Prompt]) -> LastToken:
        lm, found = self.lm, []
        for prompt in prompts:
            outputs: dict[int, Tensor] = {}
            residual: dict[int, Tensor] = {}
            with record_head_outputs(lm, range(lm.n_layers), None, outputs), record_residuals(lm, residual):
                scores = self._forward(prompt)
            # (1, n_layers, n_heads * head_dim) -> (1, n_layers, n_heads, head_dim)
            by_layer = torch.stack([outputs[layer].to(lm.device) for layer in range(lm.n_layers)], 1)
            by_head = by_layer.unflatten(-1, (lm.n_heads, lm.head_dim))
            residuals = torch.stack([residual[layer].to(lm.device) for layer in range(lm.n_layers)], 1)
            found.append(LastToken(scores, by_head, residuals))
        return LastToken.cat(found)

    @in_engine_pass
    def patch_heads(
        self, prompts: Sequence[Prompt], head_values: Tensor, heads: Sequence[Head], advance: Advance = ignore_progress
    ) -> PatchScores:
        own, patched = [], []
        for prompt in prompts:
            own.append(self.last_token([prompt]))
            for head in heads:
                with edit_head_outputs(self.lm, head.layer, self.patch(head, head_values)):
                    patched.append(self._forward(prompt).logprob)
            advance(1)
        unedited = LastToken.cat(own)
        shape = (len(prompts), len(heads))
        unpatched = unedited.scores.logprob[:, None].expand(shape).clone()
        return PatchScores(unedited, unpatched, torch.cat(patched).reshape(shape))

    @in_engine_pass
    def inject(
        self, prompts: Sequence[Prompt], vectors: Tensor, cells: Sequence[Cell], advance: Advance = ignore_progress
    ) -> tuple[TargetScores, TargetScores]:
        check_vectors(prompts, vectors, self.lm.d_model)
        baseline, injected = [], []
        for prompt, own in zip(prompts, vectors.to(self.lm.device, self.lm.dtype), strict=True):
            forward = self._forward_of(prompt)
            baseline.append(forward())
            for vector in own:
                for cell in cells:
                    with edit_block_output(self.lm, cell.layer, self._add(cell.alpha * vector)):
                        injected.append(forward())
                    advance(1)
        shape = (len(prompts), vectors.shape[1], len(cells))
        return TargetScores.cat(baseline), TargetScores.cat(injected).reshape(*shape)

    @in_engine_pass
    def target_logprobs(self, prompts: Sequence[Prompt], edits: Sequence[LastTokenEdit]) -> Tensor:
        found = [[target_logprob(self._logits(p, edit)[0], torch.tensor(p.target)) for edit in edits] for p in prompts]
        return torch.tensor(found, dtype=torch.float64)

    @in_engine_pass
    def answers(
        self, prompts: Sequence[Prompt], edits: Sequence[LastTokenEdit], advance: Advance = ignore_progress
    ) -> list[AnswerReads]:
        found = []
        for prompt in prompts:
            # (n_edits, n + 1, vocabulary)
            logits = torch.stack([self._logits(prompt, edit, prompt.answer) for edit in edits])
            found.append(reads_of_logits(logits, prompt))
            advance(len(edits))
        return found

    @in_engine_pass
    def divergences(
        self,
        prompts: Sequence[Prompt],
        edits: Sequence[LastTokenEdit],
        reference: Sequence[Prompt] | None = None,
    ) -> Tensor:
        found = []
        for prompt, other in zip(prompts, reference or prompts, strict=True):
            own = self._logits(other, None)
            found.append(torch.cat([kl_divergence(own, self._logits(prompt, edit)) for edit in edits]))
        return torch.stack(found)

    @torch.inference_mode(False)
    @in_engine_pass
    def trained(
        self,
        prompts: Sequence[Prompt],
        aside: Sequence[Prompt],
        parameters: Parameters,
        edit_of: EditOf,
        descent: Descent,
    ) -> Trained:
        check_prompts(prompts, aside)
        check_has_gradients(self.lm, NOT_TRAINED)
        return train(self._objective([*prompts, *aside]), len(prompts), parameters, edit_of, descent)

    def _objective(self, prompts: Sequence[Prompt]) -> Objective:
        return FullForwards(self._logits, prompts)

    @in_engine_pass
    def part_outputs(self, prompts: Sequence[Prompt], part: str) -> Tensor:
        return torch.stack([outputs_of_prompt(self.lm, prompt, part) for prompt in prompts])

    def keeping(self, most_bytes: int) -> AbstractContextManager[None]:
        del most_bytes  # nothing is shared between forwards
        return nullcontext()

    def _logits(self, prompt: Prompt, edit: LastTokenEdit, after: Sequence[int] = ()) -> Tensor:
        """Logits after the last prompt token and each token that follows it, (1 + n_after, vocabulary) on the CPU."""
        ids, last = torch.tensor([[*prompt.token_ids, *after]], device=self.lm.device), len(prompt.token_ids) - 1
        with edited_rows(self.lm, [edit], last):
            logits = self.lm.model(input_ids=ids, use_cache=False, logits_to_keep=1 + len(after)).logits[0]
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).cpu()

    def _forward_of(self, prompt: Prompt) -> Callable[[], TargetScores]:
        """The function by which `inject` runs a prompt under each edit; it returns (1,) scores."""
        return partial(self._forward, prompt)

    def _forward(self, prompt: Prompt) -> TargetScores:
        ids = torch.tensor([prompt.token_ids], device=self.lm.device)  # (1, n_tokens)
        logits = self.lm.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits  # (1, 1, vocabulary)
        return TargetScores.of_logits(logits[:, -1], torch.tensor([prompt.target], device=self.lm.device))

    def patch(self, head: Head, head_values: Tensor) -> Change:
        """An edit that sets one head's last-token output to its value in `head_values`."""
        value = head_values[head.layer, head.head].to(self.lm.device, self.lm.dtype)
        columns = self.lm.head_slice(head.head)

        def edit(head_outputs: Tensor) -> Tensor:
            edited = head_outputs.clone()
            edited[:, -1, columns] = value.to(edited.device)
            return edited

        return edit

    @staticmethod
    def _add(vector: Tensor) -> Change:
        def edit(residual: Tensor) -> Tensor:
            edited = residual.clone()
            edited[:, -1] += vector.to(edited.device)
            return edited

        return edit


def reads_of_logits(logits: Tensor, prompt: Prompt) -> AnswerReads:
    """Ratings of a prompt's answer of n tokens, from all logits, (n_edits, n + 1, vocabulary)."""
    n, answer = len(prompt.answer), torch.tensor(prompt.answer, device=logits.device)
    within, end = logits[:, :n], logits[:, n]  # (n_edits, n, vocabulary), (n_edits, vocabulary)
    scores = TargetScores.of_logits(within.flatten(0, 1), answer.repeat(len(logits))).reshape(len(logits), n)
    likeliest = logits.argmax(-1)  # (n_edits, n + 1)
    agree = torch.tensor([n_agreeing(said, prompt.answer) == n for said in likeliest.tolist()], device=logits.device)
    end_tied = is_tied(end, likeliest[:, n]) & agree
    likeliest[:, n] = likeliest[:, n].where(end.amax(-1).isfinite(), NOT_FINITE).where(agree, NOT_ASKED)
    difference = logit_difference(logits[:, 0], prompt.target, prompt.wrong)
    return AnswerReads(scores, None if difference is None else difference.double(), likeliest, end_tied)
