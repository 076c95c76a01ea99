"""The check that a model's numbers are finite: an error at the first that is not, so that none gets into a table.

Engines never use NaN for numbers that were not measured, so here it is always an error.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fv.errors import NotFiniteError
from fv.interventions.edit import Edit, LastTokenEdit
from fv.interventions.engine import NOT_FINITE, AnswerReads, Cell, Head, LastToken, PatchScores, TargetScores
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt

Said = Callable[..., str]
"""A function that describes the place of a number by its indices, without the prompt's index."""
WIDER = {
    torch.float16: "nothing above 65,504 fits this format: load it in float32, or in bfloat16, which is as narrow",
    torch.bfloat16: "load it in float32",
    torch.float32: "load it in float64",
}
"""Remedies for number formats that are too narrow."""


class FiniteCheck:
    """Checks the numbers of several prompts; each method raises a `NotFiniteError` at the first that is not finite.

    Args:
        lm: the model.
        prompts: the prompts that were run.
    """

    def __init__(self, lm: LanguageModel, prompts: Sequence[Prompt]) -> None:
        self._lm = lm
        self._prompts = prompts

    def last_token(self, found: LastToken) -> None:
        """Check unedited prompts."""
        self._check(found.scores.logprob, "unedited")
        self._check(found.head_outputs, lambda layer, *_: f"unedited, in the head outputs of layer {layer}")
        self._check(found.residual, lambda layer, *_: f"unedited, in the residual stream after block {layer}")

    def patched(self, found: PatchScores, heads: Sequence[Head]) -> None:
        """Check prompts with heads patched one at a time."""
        self.last_token(found.unedited)
        self._check(found.unpatched, lambda _: "unedited")
        self._check(found.patched, lambda i: f"with head {heads[i].layer}.{heads[i].head} set to its clean mean")

    def injected(self, before: TargetScores, after: TargetScores, cells: Sequence[Cell]) -> None:
        """Check prompts without, (n_prompts,), and with vectors added, (n_prompts, n_vectors, n_cells)."""
        self._check(before.logprob, "unedited")
        self._check(
            after.logprob, lambda _, i: f"with {cells[i].alpha:g} times a vector added after block {cells[i].layer}"
        )

    def edited(self, found: Tensor, edits: Sequence[LastTokenEdit]) -> None:
        """Check one number per prompt and edit, (n_prompts, n_edits)."""
        self._check(found, lambda i: _words(edits[i]))

    def answers(self, found: Sequence[AnswerReads], edits: Sequence[LastTokenEdit]) -> None:
        """Check whole answers under each edit."""
        for i, read in enumerate(found):
            one = FiniteCheck(self._lm, self._prompts[i : i + 1])
            one._check(read.scores.logprob[None], lambda edit, _: _words(edits[edit]))
            if read.logit_difference is not None:
                one.edited(read.logit_difference[None], edits)
            one._refuse(read.likeliest[None] == NOT_FINITE, lambda edit, _: _words(edits[edit]))

    def edited_together(self, found: Tensor, edits: Sequence[Edit]) -> None:
        """Check one number per prompt, (n_prompts,), under all of these edits together."""
        self._check(found, " and ".join(map(_words, edits)) or "unedited")

    def estimates(self, found: Tensor) -> None:
        """Check estimated effects, (n_prompts, n_layers, n_heads)."""
        self._check(found, lambda layer, head: f"in the gradient at head {layer}.{head}")

    def part_outputs(self, found: Tensor, part: str) -> None:
        """Check outputs of a part of each block, (n_prompts, n_layers, d_model)."""
        self._check(found, lambda layer, _: f"unedited, in the {part} output of layer {layer}")

    def _check(self, values: Tensor, said: Said | str) -> None:
        """Check numbers whose first axis is the prompts."""
        self._refuse(~values.isfinite(), said)

    def _refuse(self, wrong: Tensor, said: Said | str) -> None:
        if not wrong.any():
            return
        prompt, *place = wrong.nonzero()[0].tolist()
        of = self._prompts[prompt]
        where = said if isinstance(said, str) else said(*place)
        name = of.name or f"prompt {prompt + 1} of {len(self._prompts)}"
        raise NotFiniteError(
            f"{self._lm.name} gives numbers that are not finite after {name} ({len(of.token_ids)} tokens), {where}. "
            f"{remedy(self._lm)}"
        )


def remedy(lm: LanguageModel) -> str:
    """The cause of a number that is not finite, as far as it is known, and the remedy."""
    for name, weight in lm.model.named_parameters():
        if weight.dtype.is_floating_point and not weight.is_meta and not weight.isfinite().all():
            return f"Its weights are not finite themselves ({name}), which no number format fixes: get its files again."
    runs = f"It runs in {str(lm.dtype).removeprefix('torch.')}"
    wider = WIDER.get(lm.dtype)
    return f"{runs}; {wider}, or use weaker edits." if wider else f"{runs}, and no format is wider: use weaker edits."


def _words(edit: LastTokenEdit) -> str:
    """An edit in words."""
    return "unedited" if edit is None else edit.words
