"""What a stage has a processor do: the matrix products of its passes by their size, since small ones run slower."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from fv.pricing.flops import causal_attention_flops
from fv.pricing.shape import Shape


class PromptPass(NamedTuple):
    """Prompts that run together, all tokens of each, padded to those of the longest."""

    n_prompts: int
    n_tokens: int


@dataclass
class Work:
    """Work to be done.

    Attributes:
        prompts: {prompts that run together: blocks they run through}; the last block's keys and values alone are a part
            of one.
        rows: {rows of a pass, each a token: blocks that so many run through together}.
        readouts: {rows that are read together: how often}; a row is read by the whole unembedding.
        row_attention: floating-point operations of the rows' attention.
        n_prompts: prompts that are run.
        n_tokens: their tokens.
    """

    prompts: dict[PromptPass, float] = field(default_factory=dict)
    rows: dict[int, float] = field(default_factory=dict)
    readouts: Counter[int] = field(default_factory=Counter)
    row_attention: float = 0.0
    n_prompts: int = 0
    n_tokens: int = 0

    def run_prompts(self, each: PromptPass, n_blocks: float) -> None:
        """Have prompts run through so many blocks together."""
        self.prompts[each] = self.prompts.get(each, 0.0) + n_blocks

    def run_rows(self, n_rows: int, n_blocks: float) -> None:
        """Have rows run through so many blocks together."""
        self.rows[n_rows] = self.rows.get(n_rows, 0.0) + n_blocks

    def add(self, other: "Work") -> None:
        """Do the other's work, too."""
        for each, n_blocks in other.prompts.items():
            self.run_prompts(each, n_blocks)
        for n_rows, n_blocks in other.rows.items():
            self.run_rows(n_rows, n_blocks)
        self.readouts.update(other.readouts)
        self.row_attention += other.row_attention
        self.n_prompts += other.n_prompts
        self.n_tokens += other.n_tokens

    def flops(self, shape: Shape) -> float:
        """Floating-point operations, a multiply-add as two; element-wise work is left out."""
        prompts = sum(times * prompt_flops(shape, each) for each, times in self.prompts.items())
        rows = sum(times * n for n, times in self.rows.items()) * 2 * shape.block_weights
        readouts = sum(times * n for n, times in self.readouts.items()) * 2 * shape.readout_weights
        return prompts + rows + self.row_attention + readouts


def prompt_flops(shape: Shape, each: PromptPass) -> int:
    """One block on all tokens of some prompts."""
    n, tokens = each
    return 2 * n * tokens * shape.block_weights + n * causal_attention_flops(shape, tokens)


def total(works: list[Work]) -> Work:
    """All of it."""
    found = Work()
    for work in works:
        found.add(work)
    return found
