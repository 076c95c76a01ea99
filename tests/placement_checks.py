"""What a placed model is compared by, in this process and on pretended devices."""

from collections.abc import Sequence

import torch
from sweep_checks import all_cells, all_heads, for_each, prompts_of, values_of, vectors_of
from torch import Tensor

from fv.interventions.edits import AddVector, ReplaceResidual, SetHeads
from fv.interventions.engines import make_engine
from fv.interventions.gradient_scores import head_scores
from fv.models.language_model import LanguageModel


def whole_modules(lm: LanguageModel) -> list[str]:
    """The modules around the blocks, and each block."""
    found = []
    for path, module in lm.model.named_modules():
        inside = path == lm.spec.blocks or path.startswith(f"{lm.spec.blocks}.")
        around = lm.spec.blocks.startswith(f"{path}.") or path == ""
        if (not inside and not around and path.rpartition(".")[0] in ("", lm.spec.blocks.rpartition(".")[0])) or any(
            module is block for block in lm.blocks
        ):
            found.append(path)
    return found


def numbers_of(lm: LanguageModel, mode: str, all_max_rows: Sequence[int] = (8, 4096)) -> list[Tensor]:
    """What an engine computes of two prompts, in small batches and in one."""
    prompts, found = prompts_of(lm, [5, 3]), []
    heads, cells = all_heads(lm)[::3], all_cells(lm)[::2]
    for max_rows in all_max_rows:
        engine = make_engine(lm, mode, max_rows)
        last = engine.last_token(prompts)
        patched = engine.patch_heads(prompts, values_of(lm), heads)
        before, after = engine.inject(prompts, for_each(prompts, vectors_of(lm, 2)), cells)
        found += [last.scores.logprob, last.head_outputs, last.residual, patched.unpatched, patched.patched]
        found += [before.logprob, before.rank, after.logprob, after.rank]
        vector, values = vectors_of(lm, 1)[0], values_of(lm)
        last_layer = lm.n_layers - 1
        edits = [None, AddVector(0, vector), ReplaceResidual(last_layer, vector, 0.5), SetHeads(tuple(heads), values)]
        found += [engine.target_logprobs(prompts, edits), engine.divergences(prompts, edits)]
        asked = [p._replace(answer=(p.target, 7), wrong=(5, 6)) for p in prompts]
        for read in engine.answers(asked, edits):
            assert read.logit_difference is not None
            found += [*read.scores.parts, read.logit_difference, read.likeliest, read.end_tied]
    return found


def scores_of(lm: LanguageModel) -> list[Tensor]:
    """What heads are screened by, in small batches and in one."""
    prompts = prompts_of(lm, [5, 3, 5])
    return [
        head_scores(lm, prompts, values_of(lm), method, points=2, max_rows=max_rows)
        for method in ("gradient", "integrated")
        for max_rows in (8, 4096)
    ]


def parts_of(lm: LanguageModel) -> list[Tensor]:
    """What is read of a model's weights outside its forward."""
    heads = values_of(lm)[1]
    hidden = vectors_of(lm, 2)
    found = [lm.out_weight(0), lm.out_bias(0), lm.projected(2, heads), lm.added_by(2, heads)]
    found += [lm.logits(hidden, slice(3, 40)), lm.logits_of(hidden, torch.tensor([4, 9]))]
    if lm.spec.post_norm:
        found.append(lm.norm_gain(0, vectors_of(lm, 1)[0].double()))
    return [*found, torch.tensor([lm.d_model, lm.head_dim, lm.vocabulary])]
