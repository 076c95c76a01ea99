"""Edits, prompts and padded batches for tests of edits, and what a model's own `generate` makes of them."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from families import tiny_editable
from sweep_checks import values_of, vectors_of
from torch import Tensor

from fv.interventions.editable import EditableModel
from fv.interventions.edits import AddVector, Edit, ReplaceResidual, SetHeads

TOLERANCE = 1e-5
POSITIONS = ["last_prompt", "all", "generated"]
KINDS = ["add", "replace", "move", "heads", "several"]


@functools.cache
def endless(family: str) -> EditableModel:
    """A tiny model that does not end its texts; a random one would at any time."""
    lm = tiny_editable(family)
    lm.model.generation_config.eos_token_id = None
    return lm


def edits_of(lm: EditableModel, kind: str, seed: int = 0, first: int = 0) -> list[Edit]:
    """Edits large enough to matter, at the block `first`, the one behind it and the last."""
    (one, other), values, second = vectors_of(lm, seed=seed), values_of(lm, seed), first + 1
    added, put = AddVector(second, one), ReplaceResidual(first, other)
    set_heads = SetHeads(((first, 1), (second, 0), (second, 3)), values)
    moved = ReplaceResidual(lm.n_layers - 1, one, share=0.3)
    of_kind: dict[str, list[Edit]] = {
        "add": [added],
        "replace": [put],
        "move": [moved],
        "heads": [set_heads],
        "several": [set_heads, added, ReplaceResidual(second, other, share=0.5), moved],
    }
    return of_kind[kind]


def random_prompts(lm: EditableModel, sizes: Sequence[int], seed: int = 0) -> list[list[int]]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randint(3, lm.vocabulary, (size,), generator=rng).tolist() for size in sizes]


def padded(prompts: list[list[int]], side: str) -> dict[str, Tensor]:
    """A batch, as a tokenizer pads it; padding is 0."""
    longest = max(map(len, prompts))
    ids, mask = [], []
    for prompt in prompts:
        padding = [0] * (longest - len(prompt))
        ones, zeros = [1] * len(prompt), padding
        ids.append(padding + prompt if side == "left" else prompt + padding)
        mask.append(zeros + ones if side == "left" else ones + zeros)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def with_position_ids(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    position_ids = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    return {**batch, "position_ids": position_ids}


def generated(lm: EditableModel, batch: dict[str, Tensor], n_new: int = 4, **how: Any) -> Any:
    """What the model's own `generate` makes of a batch, with the logits of each step."""
    return lm.model.generate(
        **batch,
        **{"max_new_tokens": n_new, "do_sample": False, "pad_token_id": 0, **how},
        return_dict_in_generate=True,
        output_logits=True,
    )
