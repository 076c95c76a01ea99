"""Operations of a stage: its matrix products, counted by size since small ones run slower."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from fv.pricing.flops import causal_attention_flops
from fv.pricing.shape import Shape


class PromptPass(NamedTuple):
    """Prompts that run together in full, padded to the length of the longest."""

    n_prompts: int
    n_tokens: int


@dataclass
class Operations:
    """Operations of model passes.

    Attributes:
        prompts: {pass of prompts: number of blocks that it runs through}. Keys and values of the last block alone count
            as a fraction of a block.
        rows: {number of rows in a pass, one token each: number of blocks that this many rows run through together}.
        readouts: {number of rows in one readout: number of such readouts}; a readout uses the whole unembedding.
        row_attention: floating-point operations of the rows' attention.
        n_prompts: number of prompts run.
        n_tokens: number of their tokens.
    """

    prompts: dict[PromptPass, float] = field(default_factory=dict)
    rows: dict[int, float] = field(default_factory=dict)
    readouts: Counter[int] = field(default_factory=Counter)
    row_attention: float = 0.0
    n_prompts: int = 0
    n_tokens: int = 0

    def run_prompts(self, each: PromptPass, n_blocks: float) -> None:
        """Count prompts that run through `n_blocks` blocks together."""
        self.prompts[each] = self.prompts.get(each, 0.0) + n_blocks

    def run_rows(self, n_rows: int, n_blocks: float) -> None:
        """Count rows that run through `n_blocks` blocks together."""
        self.rows[n_rows] = self.rows.get(n_rows, 0.0) + n_blocks

    def add(self, other: "Operations") -> None:
        """Add the operations of `other`."""
        for each, n_blocks in other.prompts.items():
            self.run_prompts(each, n_blocks)
        for n_rows, n_blocks in other.rows.items():
            self.run_rows(n_rows, n_blocks)
        self.readouts.update(other.readouts)
        self.row_attention += other.row_attention
        self.n_prompts += other.n_prompts
        self.n_tokens += other.n_tokens

    def flops(self, shape: Shape) -> float:
        """Number of floating-point operations. A multiply-add counts as two; element-wise operations are left out."""
        prompts = sum(times * prompt_flops(shape, each) for each, times in self.prompts.items())
        rows = sum(times * n for n, times in self.rows.items()) * 2 * shape.block_weights
        readouts = sum(times * n for n, times in self.readouts.items()) * 2 * shape.readout_weights
        return prompts + rows + self.row_attention + readouts


def prompt_flops(shape: Shape, each: PromptPass) -> int:
    """Floating-point operations of one block on all tokens of a pass of prompts."""
    n, tokens = each
    return 2 * n * tokens * shape.block_weights + n * causal_attention_flops(shape, tokens)


def total(works: list[Operations]) -> Operations:
    """Sum of several operations."""
    found = Operations()
    for work in works:
        found.add(work)
    return found
