"""Proof at load that edits reach the model, on a prompt of six tokens. Never a silent no-op."""

from typing import Any

import torch
from torch import Tensor

from fv.errors import ModelError
from fv.hooks import edit_block_output, edit_head_outputs
from fv.models.language_model import LanguageModel
from fv.naive import NaiveSweep
from fv.shared_prefix import SharedPrefixSweep
from fv.sweep import Head, Prompt

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.1}
"""How far the sweep may be from the naive loop in log p: far above rounding, far below a wrong mask's error."""


@torch.no_grad()
def selfcheck(lm: LanguageModel) -> dict[str, Any]:
    """Prove that edits act where the spec says.

    - An identity edit of the head outputs leaves the logits bit-equal.
    - Zeroing them changes the logits, in the first, middle and last layer.
    - A vector added behind a block changes the logits.
    - The shared-prefix sweep agrees with the naive loop, on prompts of unequal length (if the spec allows it).

    Returns:
        what was measured, for the metadata.

    Raises:
        ModelError: naming the family, the module path and the number.
    """
    ids = [(7 + 11 * i) % lm.vocabulary for i in range(6)]
    tokens = torch.tensor([ids], device=lm.device)
    layers = sorted({0, lm.n_layers // 2, lm.n_layers - 1})

    def logits() -> Tensor:
        return lm.model(input_ids=tokens, use_cache=False, logits_to_keep=1).logits[0, -1]

    plain = logits()
    direction = torch.linspace(-1, 1, lm.d_model, device=lm.device, dtype=lm.dtype)
    report: dict[str, Any] = {"identity_bit_equal": True, "zeroed_max_change": {}, "added_max_change": {}}
    for layer in layers:
        projection = f"{lm.spec.blocks}.{layer}.{lm.spec.out_proj}"
        with edit_head_outputs(lm, layer, torch.clone):
            if not torch.equal(logits(), plain):
                raise ModelError(f"Self-check of {lm.spec.name}: an identity edit at {projection} changes the logits.")
        with edit_head_outputs(lm, layer, torch.zeros_like):
            report["zeroed_max_change"][str(layer)] = _changed(logits(), plain, lm, projection)
        block = f"{lm.spec.blocks}.{layer}"
        with edit_block_output(lm, layer, direction.add):
            report["added_max_change"][str(layer)] = _changed(logits(), plain, lm, block)
    if lm.spec.shared_prefix:
        report["sweep_vs_naive"] = _sweep_difference(lm, ids)
    return report


def _changed(edited: Tensor, plain: Tensor, lm: LanguageModel, path: str) -> float:
    change = float((edited - plain).abs().max())
    if not change > 0:
        raise ModelError(
            f"Self-check of {lm.spec.name}: editing {path} changes no logit (largest change {change}). The module is "
            f"not where the spec says. Paths tried: {lm.spec.blocks}, {lm.spec.out_proj}, {lm.spec.final_norm}."
        )
    return change


def _sweep_difference(lm: LanguageModel, ids: list[int]) -> float:
    prompts = [Prompt(tuple(ids), ids[0]), Prompt(tuple(ids[2:]), ids[1])]
    heads = [Head(layer, lm.n_heads - 1) for layer in sorted({0, lm.n_layers // 2, lm.n_layers - 1})]
    # Values large enough to matter whatever the model's scale, and different in every head.
    values = torch.linspace(-2, 2, lm.n_layers * lm.n_heads * lm.head_dim).view(lm.n_layers, lm.n_heads, lm.head_dim)
    naive = NaiveSweep(lm).patch_heads(prompts, values, heads).patched
    fast = SharedPrefixSweep(lm, max_rows=64).patch_heads(prompts, values, heads).patched
    difference = float((naive - fast).abs().max())
    if not difference <= TOLERANCE.get(lm.dtype, 0.3):
        raise ModelError(
            f"Self-check of {lm.spec.name}: the shared-prefix sweep is {difference:.2g} away from the naive loop in "
            "log p. This family needs compute.sweep=naive (shared_prefix=False in its spec)."
        )
    return difference
