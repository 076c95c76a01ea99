"""Prices of the engine that shares prefixes (`fv.interventions.shared_prefix`, method by method)."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby

import numpy as np
from torch import Tensor

from fv.interventions.engine import Cell
from fv.interventions.gradients import TILE_LOGITS
from fv.interventions.grid_passes import passes_of
from fv.interventions.readout import TILE_ROWS
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.models.prompt import Prompt
from fv.pricing.memory import prefix_bytes, readout_bytes, token_bytes
from fv.pricing.operations import PromptPass
from fv.pricing.priced_engine import Entry, PricedBatch, PricedEngine


@lru_cache(maxsize=1024)
def rows_in_blocks(entries: tuple[Entry, ...], n_layers: int) -> tuple[tuple[int, int], ...]:
    """Pairs (number of rows, number of blocks that they run through together) of a pass, from its lowest block on.

    The function is cached, as passes repeat from relation to relation. An unedited row enters with the lowest of the
    others (`fv.interventions.rows.run_rows`).
    """
    lowest = min((entry for entry in entries if entry is not None), default=n_layers)
    entering = np.bincount([lowest if entry is None else entry for entry in entries], minlength=n_layers + 1)
    there = np.cumsum(entering)[lowest:n_layers]  # rows in each block
    return tuple((n_rows, len(list(blocks))) for n_rows, blocks in groupby(there.tolist()))


class PricedSharedPrefix(PricedEngine):
    """Prices of `fv.interventions.shared_prefix.SharedPrefixEngine`."""

    prices_by_length = True

    def batches(self, prompts: Sequence[Prompt], rows_each: int) -> list[slice]:
        return SharedPrefixEngine(self.lm, self.max_rows).batches(prompts, rows_each)

    def price_last_token(self, prompts: Sequence[Prompt]) -> None:
        for _, batch in self._batches(prompts):
            self._read(batch.n)

    def price_patches(self, prompts: Sequence[Prompt], layers: Sequence[int]) -> None:
        by_layer, step = sorted(layers), self.max_rows - 1
        for _, batch in self._batches(prompts, 1 + len(layers)):
            for start in range(0, len(by_layer), step):
                chunk = by_layer[start : start + step]
                self._rows(batch, [None, *chunk])
                self._read(batch.n * (1 + len(chunk)))
            self._read(batch.n)  # `_unedited`

    def price_grid(self, prompts: Sequence[Prompt], vectors: Tensor, cells: Sequence[Cell]) -> None:
        shape = self.shape
        for part, batch in self._batches(prompts):
            known: dict[tuple[float, ...], tuple[int, int]] = {}
            for layer, here in groupby(sorted(set(cells)), key=lambda cell: cell.layer):
                alphas = tuple(cell.alpha for cell in here)
                if alphas not in known:  # the division of cells into passes depends on their alphas alone
                    passes = passes_of(vectors[part], [Cell(layer, alpha) for alpha in alphas], self.max_rows)
                    known[alphas] = len(passes), len(passes[0])
                n_passes, n_slots = known[alphas]
                rows, n_blocks = batch.n * n_slots, shape.n_layers - 1 - layer
                self._block_rows(rows, n_passes * n_blocks, batch.n_tokens)
                self._read(rows, n_passes)
            self._read(batch.n)  # `_own_scores`

    def price_targets(self, prompts: Sequence[Prompt], entries: Sequence[Entry]) -> None:
        for _, batch in self._batches(prompts):
            for chunk in self._chunks(entries, batch.n):
                self._rows(batch, chunk)
                self._read(batch.n * len(chunk))

    def price_answers(self, prompts: Sequence[Prompt], entries: Sequence[Entry]) -> None:
        alike: dict[int, list[Prompt]] = defaultdict(list)
        for prompt in prompts:
            alike[len(prompt.answer)].append(prompt)
        for n, here in sorted(alike.items()):
            for _, batch in self._batches(here):
                # `Continuation`: the unedited tokens of the answer, through all blocks.
                self._block_rows(batch.n * (1 + n), self.shape.n_layers, batch.n_tokens + n)
                for chunk in self._chunks(entries, (1 + n) * batch.n):
                    self._rows(batch, chunk, 1 + n)
                    self._read(batch.n * len(chunk) * n)

    def price_divergences(
        self, prompts: Sequence[Prompt], entries: Sequence[Entry], reference: Sequence[Prompt] | None
    ) -> None:
        if reference is not None:
            for _ in self._batches(reference):
                pass  # a batch is priced when it is run
        for _, batch in self._batches(prompts):
            for chunk in self._chunks(entries, batch.n):
                self._rows(batch, chunk)
                self._read(len(chunk), batch.n)
                self._read(1, 2 * batch.n)  # the unedited row: once for its own sum, once with the others

    def price_scores(self, prompts: Sequence[Prompt], points: int) -> None:
        batch, shape = self._run(prompts), self.shape
        if not points:
            self._back(batch, batch.n, shape.n_layers)
            self._read_back(batch.n)
            return
        step = max(1, self.max_rows // (points * batch.n))
        for start in range(0, shape.n_layers, step):
            layers = range(start, min(start + step, shape.n_layers))
            for layer in range(start, shape.n_layers):
                rows = batch.n * points * (min(layer, layers[-1]) + 1 - start)
                self._block_rows(rows, 1, batch.n_tokens)
                self._back(batch, rows, 1)
            self._read_back(batch.n * points * len(layers))

    def price_training(self, prompts: Sequence[Prompt], entry: int, steps: int) -> None:
        n_blocks, parts = self.shape.n_layers - entry, self.batches(prompts, 1)
        for batch in [self._run(prompts[part]) for part in parts]:
            self._read(batch.n)  # unedited
            self._back(batch, batch.n, steps * n_blocks)
            self._read_back(batch.n, steps)
            # After the last step, there is nothing to go back for.
            self._block_rows(batch.n, n_blocks, batch.n_tokens)
            self._read(batch.n)
            self._needs(len(parts) * batch.n_bytes + n_blocks * token_bytes(self.shape, batch.n))

    def price_part_outputs(self, prompts: Sequence[Prompt]) -> None:
        for _, batch in self._batches(prompts):
            self._block_rows(batch.n, self.shape.n_layers, batch.n_tokens)

    def _price_prompts(self, prompts: Sequence[Prompt]) -> PricedBatch:
        shape = self.shape
        each = PromptPass(len(prompts), max(len(prompt.token_ids) for prompt in prompts))
        batch = PricedBatch(prompts, prefix_bytes(shape, each))
        self._needs(batch.n_bytes + token_bytes(shape, each.n_prompts * each.n_tokens))
        # In the last block: keys and values of all tokens, with their unused queries, and everything of the last token.
        in_last = shape.key_value_weights + shape.d_model * shape.attention_width
        self.work.run_prompts(each, shape.n_layers - 1 + in_last / shape.block_weights)
        self._block_rows(each.n_prompts, 1, each.n_tokens)
        return batch

    def _batches(self, prompts: Sequence[Prompt], rows_each: int = 1) -> Iterator[tuple[slice, PricedBatch]]:
        self._held = self._kept.n_bytes
        for part in self.batches(prompts, rows_each):
            yield part, self._run(prompts[part])

    def _chunks(self, entries: Sequence[Entry], rows_each: int) -> Iterator[list[Entry]]:
        """Divide rows into passes; rows that enter at neighbouring blocks run together."""
        order = sorted(entries, key=lambda entry: -1 if entry is None else entry)
        step = max(1, self.max_rows // rows_each)
        for start in range(0, len(order), step):
            yield order[start : start + step]

    def _rows(self, batch: PricedBatch, entries: Sequence[Entry], n_positions: int = 1) -> None:
        """Price the rows of a pass, each from the block at which it enters."""
        for there, n_blocks in rows_in_blocks(tuple(entries), self.shape.n_layers):
            self._block_rows(batch.n * there * n_positions, n_blocks, batch.n_tokens - 1 + n_positions)
        self._needs(token_bytes(self.shape, batch.n * len(entries) * n_positions))

    def _block_rows(self, n_rows: int, times: int, n_tokens: int) -> None:
        """Price `n_rows` rows that run through `times` blocks, each attending to the tokens of its prompt."""
        self.work.run_rows(n_rows, times)
        self.work.row_attention += times * n_rows * 4 * n_tokens * self.shape.attention_width
        self._needs(token_bytes(self.shape, n_rows))

    def _read(self, n_rows: int, times: int = 1) -> None:
        """Price reading rows, in nearly equal parts of at most `TILE_ROWS` rows."""
        n_parts = -(-n_rows // TILE_ROWS)
        if n_parts:
            self.work.readouts[-(-n_rows // n_parts)] += n_parts * times
            self._needs(n_rows * self.shape.d_model * self.shape.itemsize)
            self._needs(readout_bytes(self.shape, n_rows))

    def _back(self, batch: PricedBatch, n_rows: int, times: int) -> None:
        """Price running blocks again, forward and backward; both cost the same, since weights have no gradients."""
        self._block_rows(n_rows, 2 * times, batch.n_tokens)

    def _read_back(self, n_rows: int, times: int = 1) -> None:
        """Price reading rows forward and backward (`fv.interventions.gradients`), in tiles of logits."""
        tile = max(1, TILE_LOGITS // self.shape.vocabulary)
        self.work.readouts[min(tile, n_rows)] += 2 * times * -(-n_rows // tile)
        self._needs(4 * TILE_LOGITS * 4)
