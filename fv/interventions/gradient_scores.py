"""Scores of all heads at once, from gradients: first-order estimates of the effect of setting a head.

An edit at the last token changes nothing before it, so the gradient of log p(target) with respect to every head's
output there needs a backward pass through one row on top of the prompt's prefix, and none through the prompt. The pass
goes block by block, from the last block down: each block is run again on its row, with a graph that ends at the block's
input. So memory holds the graph of one block only, no graph holds the prefix, and an offloaded block is loaded only
twice. This is attribution patching (Nanda 2023; Kramár et al., "AtP*", 2024), which runs the pass through the prompt.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from fv.config import ComputeConfig, ScoreConfig
from fv.errors import ConfigError, one_of
from fv.interventions.equal_length_batch import EqualLengthBatch
from fv.interventions.gradients import check_has_gradients, logprob_slopes
from fv.interventions.hooks import Change, edit_head_outputs
from fv.interventions.passes import in_engine_pass
from fv.interventions.prefix_attention import shared_prefix_mode
from fv.interventions.prompt_batch import PromptBatch
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.models.spec import FastEngine
from fv.progress import Advance, ignore_progress

METHODS = ("gradient", "integrated")

Batch = PromptBatch | EqualLengthBatch


@torch.inference_mode(False)
@in_engine_pass
def head_scores(  # noqa: PLR0913 - each is a choice of its own
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    head_values: Tensor,
    method: str = "gradient",
    points: int = ScoreConfig.screen_points,
    max_rows: int = ComputeConfig.max_rows,
    advance: Advance = ignore_progress,
    run: Callable[[Sequence[Prompt]], PromptBatch] | None = None,
) -> Tensor:
    """Estimate the effect of setting each head to its value in `head_values`, each head on its own.

    The score of a head is an estimate of log p(target | head set) - log p(target): the sum over head_dim of
    (value - own output) * d log p(target) / d output, at the last token. `gradient` takes the derivative at the heads'
    own outputs: the first-order estimate. `integrated` takes its mean over points on the way to the values, moving one
    layer's heads at a time (integrated gradients, Sundararajan et al. 2017): it also detects a head that is saturated
    at either end, but takes `points` rows per layer instead of one row in all.

    Args:
        lm: the model. Its parameters get no gradients.
        prompts: the (corrupted) prompts.
        head_values: (n_layers, n_heads, head_dim), the values that would be patched in.
        method: `gradient` or `integrated`.
        points: number of points that `integrated` takes: the midpoints of equal parts of the way.
        max_rows: most prompt tokens, or rows of points, in one pass; changes last bits.
        advance: progress callback, called with the number of prompts done.
        run: runs the prompts as one batch, for a family that shares prefixes: an engine's `run_prompts` may have kept
            them.

    Returns:
        (n_prompts, n_layers, n_heads), float64 on the CPU.

    Raises:
        ConfigError: there is no such method, `points` is below 1, or `head_values` has another shape.
        ModelError: the model is being edited, or has quantised weights on a CPU.
    """
    one_of("method", method, METHODS)
    if not isinstance(points, int) or points < 1:
        raise ConfigError(f"points={points!r} must be a whole number of 1 or more.")
    given, due = tuple(head_values.shape), (lm.n_layers, lm.n_heads, lm.head_dim)
    if given != due:
        raise ConfigError(f"head_values has the shape {given}, where (n_layers, n_heads, head_dim), {due}, is due.")
    check_has_gradients(lm, "sweep its heads exactly")
    # A copy, because a tensor from a caller's inference mode cannot be differentiated.
    values = head_values.detach().clone().to(lm.device, lm.dtype).flatten(1)  # (n_layers, n_heads * head_dim)
    scores = torch.empty(len(prompts), lm.n_layers, lm.n_heads, dtype=torch.float64)
    for part in _batches(lm, prompts, max_rows) if run is None else [[*range(len(prompts))]]:
        with _mode_of(lm):
            here = [prompts[i] for i in part]
            batch = _batch_of(lm, here) if run is None else run(here)
            scores[part] = batch_scores(batch, values, method, points, max_rows)
        advance(len(part))
    return scores


def _batches(lm: LanguageModel, prompts: Sequence[Prompt], max_rows: int) -> Iterator[list[int]]:
    """Yield batches of prompts, sorted by length, with at most `max_rows` tokens each but at least one prompt."""
    lengths = [len(prompt.token_ids) for prompt in prompts]
    part: list[int] = []
    for i in sorted(range(len(prompts)), key=lambda i: lengths[i]):
        unequal = lm.spec.sweep is not FastEngine.shared_prefix and part and lengths[part[0]] != lengths[i]
        if unequal or (part and (len(part) + 1) * lengths[i] > max_rows):
            yield part
            part = []
        part.append(i)
    if part:
        yield part


def _mode_of(lm: LanguageModel) -> AbstractContextManager[None]:
    return shared_prefix_mode(lm) if lm.spec.sweep is FastEngine.shared_prefix else nullcontext()


def _batch_of(lm: LanguageModel, prompts: Sequence[Prompt]) -> Batch:
    kind = PromptBatch if lm.spec.sweep is FastEngine.shared_prefix else EqualLengthBatch
    return kind(lm, prompts)


def batch_scores(batch: Batch, values: Tensor, method: str, points: int, max_rows: int) -> Tensor:
    """`head_scores` of prompts that have been run; call it in the same mode, inside `engine_pass`.

    Args:
        batch: the prompts.
        values: (n_layers, n_heads * head_dim), in the model's number format.
        method: `gradient` or `integrated`.
        points: number of points that `integrated` takes.
        max_rows: most rows of points in one pass.

    Returns:
        (batch, n_layers, n_heads), float64 on the CPU.
    """
    lm = batch.lm
    # Per layer (batch, 1, n_heads * head_dim), on the layer's device
    own = [batch.head_outputs[layer][:, None] for layer in range(lm.n_layers)]
    changes = [values[layer].to(outputs.device) - outputs for layer, outputs in enumerate(own)]
    slopes = _own_slopes(batch) if method == "gradient" else _mean_slopes(batch, changes, points, max_rows)
    products = [change.double() * slope.double() for change, slope in zip(changes, slopes, strict=True)]
    # (batch, n_layers, n_heads * head_dim) -> (batch, n_layers, n_heads)
    return torch.cat([part.cpu() for part in products], 1).unflatten(-1, (lm.n_heads, lm.head_dim)).sum(-1)


def _own_slopes(batch: Batch) -> list[Tensor]:
    """The gradient at each layer's own head outputs, (batch, 1, n_heads * head_dim)."""
    slopes = []
    gradient = logprob_slopes(batch.lm, batch.residual[-1], batch.targets).gradient  # (batch, 1, d_model)
    for layer in reversed(range(batch.lm.n_layers)):
        slope, gradient = _back_through(batch, layer, batch.residual[layer], None, gradient)
        slopes.append(slope)
    return slopes[::-1]


def _mean_slopes(batch: Batch, changes: Sequence[Tensor], points: int, max_rows: int) -> list[Tensor]:
    """The mean gradient at each layer's head outputs on their way by `changes`, both (batch, 1, n_heads * head_dim).

    Each point on each layer's way is a row of its own, in which only that layer is moved.
    """
    n_layers = batch.lm.n_layers
    # If rows share no prefix, memory holds one layer's cache for each row, and all layers' caches for each prompt.
    most = max_rows if isinstance(batch, PromptBatch) else max_rows * n_layers // batch.n_tokens
    step = max(1, most // (points * len(batch.targets)))
    slopes: list[Tensor] = []
    for start in range(0, n_layers, step):
        slopes += _mean_slopes_of(batch, changes, points, range(start, min(start + step, n_layers)))
    return slopes


def _mean_slopes_of(batch: Batch, changes: Sequence[Tensor], points: int, layers: range) -> list[Tensor]:
    """`_mean_slopes` of neighbouring layers, in one pass up from the first of them and one pass back."""
    rows = batch.residual[layers.start][:, :0]  # (batch, 0, d_model)
    entering: dict[int, Tensor] = {}
    for layer in range(layers.start, batch.lm.n_layers):
        if layer in layers:  # its rows enter here: in lower blocks they equal the unedited token
            rows = torch.cat([rows, batch.residual[layer].to(rows.device).expand(-1, points, -1)], 1)
        entering[layer] = rows
        moved = _moved(changes[layer], rows.shape[1], points if layer in layers else 0)
        with edit_head_outputs(batch.lm, layer, _adding(moved)):
            rows = batch.run_block(layer, rows)
    slopes = []
    gradient = logprob_slopes(batch.lm, rows, batch.targets).gradient  # (batch, n_rows, d_model)
    for layer in reversed(range(layers.start, batch.lm.n_layers)):
        rows = entering.pop(layer)
        moved = _moved(changes[layer], rows.shape[1], points if layer in layers else 0)
        slope, gradient = _back_through(batch, layer, rows, moved, gradient)
        if layer in layers:
            slopes.append(slope[:, -points:].mean(1, keepdim=True))
            gradient = gradient[:, :-points]
    return slopes[::-1]


def _moved(change: Tensor, n_rows: int, n_moved: int) -> Tensor:
    """The part of `change` by which each row moves, (batch, n_rows, n_heads * head_dim): the last `n_moved` only."""
    shares = torch.zeros(n_rows)
    shares[n_rows - n_moved :] = (torch.arange(n_moved) + 0.5) / max(1, n_moved)  # the midpoints of equal parts
    return shares.to(change)[:, None] * change


def _back_through(
    batch: Batch, layer: int, entering: Tensor, moved: Tensor | None, leaving: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients at a block's head outputs and at its input, given the gradient at its output.

    Args:
        batch: the prompts.
        layer: the block.
        entering: the residual stream that enters it, (batch, n_rows, d_model).
        moved: added to the block's head outputs, (batch, n_rows, n_heads * head_dim); None for nothing.
        leaving: the gradient at the residual stream that leaves it, (batch, n_rows, d_model).

    Returns:
        (batch, n_rows, n_heads * head_dim) and (batch, n_rows, d_model).
    """
    seen: list[Tensor] = []

    def note(head_outputs: Tensor) -> Tensor:
        seen.append(head_outputs)
        return head_outputs if moved is None else _adding(moved)(head_outputs)

    entering = entering.detach().requires_grad_()
    with torch.enable_grad(), edit_head_outputs(batch.lm, layer, note):
        after = batch.run_block(layer, entering)
    at_heads, at_entering = torch.autograd.grad(after, (seen[0], entering), leaving.to(after.device))
    return at_heads.reshape(*entering.shape[:2], -1), at_entering


def _adding(moved: Tensor) -> Change:
    """An edit that adds `moved`, (batch, n_rows, n_heads * head_dim), also if rows are batch items."""
    return lambda head_outputs: head_outputs + moved.reshape(head_outputs.shape)
