"""Prices of the engines that work with every family (`fv.interventions.naive` and `.expanded_batch`)."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from torch import Tensor

from fv.interventions.engine import Cell
from fv.interventions.expanded_batch import EDITS_TOGETHER
from fv.models.prompt import Prompt
from fv.pricing.memory import cache_bytes, token_bytes
from fv.pricing.operations import PromptPass
from fv.pricing.priced_engine import Entry, PricedBatch, PricedEngine


class PricedNaive(PricedEngine):
    """Prices of `fv.interventions.naive.NaiveEngine`: one forward per edit."""

    def batches(self, prompts: Sequence[Prompt], rows_each: int) -> list[slice]:
        del rows_each
        return [slice(i, i + 1) for i in range(len(prompts))]

    def price_last_token(self, prompts: Sequence[Prompt]) -> None:
        self._forwards(prompts, 1)

    def price_patches(self, prompts: Sequence[Prompt], layers: Sequence[int]) -> None:
        self._forwards(prompts, 1 + len(layers))

    def price_grid(self, prompts: Sequence[Prompt], vectors: Tensor, cells: Sequence[Cell]) -> None:
        self._forwards(prompts, 1 + vectors.shape[1] * len(cells))

    def price_targets(self, prompts: Sequence[Prompt], entries: Sequence[Entry]) -> None:
        self._forwards(prompts, len(entries))

    def price_answers(self, prompts: Sequence[Prompt], entries: Sequence[Entry]) -> None:
        self._forwards(prompts, len(entries), with_answers=True)

    def price_divergences(
        self, prompts: Sequence[Prompt], entries: Sequence[Entry], reference: Sequence[Prompt] | None
    ) -> None:
        self._forwards(prompts, len(entries))
        self._forwards(reference or prompts, 1)

    def price_scores(self, prompts: Sequence[Prompt], points: int) -> None:
        """Price scores as `fv.interventions.equal_length_batch` computes them, prompt by prompt."""
        n_layers = self.shape.n_layers
        for prompt in prompts:
            n_tokens = len(prompt.token_ids)
            self._prefix([prompt])
            self._rows(1, n_tokens, 1)
            for layer in range(n_layers) if points else ():
                self._rows(points, n_tokens, 3 * (n_layers - layer) / n_layers)
            if not points:
                self._rows(1, n_tokens, 2)
            self.work.readouts[points * n_layers or 1] += 2

    def price_training(self, prompts: Sequence[Prompt], entry: int, steps: int) -> None:
        n_layers = self.shape.n_layers
        self._forwards(prompts, 2 + steps)
        for prompt in prompts:
            # Back through all tokens of the prompt, since nothing is shared between forwards.
            self.work.run_prompts(PromptPass(1, len(prompt.token_ids)), steps * (n_layers - entry))
            self.work.readouts[1] += steps

    def price_part_outputs(self, prompts: Sequence[Prompt]) -> None:
        for prompt in prompts:
            n_tokens = len(prompt.token_ids)
            self.work.n_prompts += 1
            self.work.n_tokens += n_tokens
            self.work.run_prompts(PromptPass(1, n_tokens), self.shape.n_layers)
            self._needs(token_bytes(self.shape, n_tokens))

    def _forwards(self, prompts: Sequence[Prompt], times: int, with_answers: bool = False) -> None:
        """Price running each prompt alone, `times` times."""
        for prompt in prompts:
            n_tokens, n_behind = len(prompt.token_ids), len(prompt.answer) if with_answers else 0
            self.work.n_prompts += 1
            self.work.n_tokens += n_tokens
            self.work.run_prompts(PromptPass(1, n_tokens + n_behind), times * self.shape.n_layers)
            self.work.readouts[1 + n_behind] += times
            logits = (1 + n_behind) * self.shape.vocabulary * 4
            self._needs(token_bytes(self.shape, n_tokens + n_behind) + 2 * logits)

    def _price_prompts(self, prompts: Sequence[Prompt]) -> PricedBatch:
        n, tokens = len(prompts), len(prompts[0].token_ids) - 1
        if tokens:
            self.work.run_prompts(PromptPass(n, tokens), self.shape.n_layers)
        batch = PricedBatch(prompts, cache_bytes(self.shape, n, tokens))
        self._needs(batch.n_bytes + token_bytes(self.shape, n * tokens))
        return batch

    def _prefix(self, prompts: Sequence[Prompt]) -> PricedBatch:
        """Price making the cache of a prompt's prefix."""
        self.work.n_prompts += len(prompts)
        self.work.n_tokens += sum(len(prompt.token_ids) for prompt in prompts)
        return self._price_prompts(prompts)

    def _rows(self, n_rows: int, n_tokens: int, times: float = 1, n_positions: int = 1) -> None:
        """Price rows that run through all blocks, each on its own copy of the prompt's cache."""
        shape, n = self.shape, n_rows * n_positions
        self.work.run_rows(n, times * shape.n_layers)
        self.work.row_attention += times * shape.n_layers * n * 4 * (n_tokens + n_positions) * shape.attention_width
        self._needs(cache_bytes(shape, n_rows, n_tokens + n_positions) + token_bytes(shape, n))


class PricedExpanded(PricedNaive):
    """Prices of `fv.interventions.expanded_batch.ExpandedBatchEngine`: one row per edit, on a copy of the cache."""

    def price_patches(self, prompts: Sequence[Prompt], layers: Sequence[int]) -> None:
        for prompt in prompts:
            self._run([prompt])
            step = max(1, self._fit(prompt, 0) - 1)
            for start in range(0, len(layers), step):
                n_rows = 1 + len(layers[start : start + step])
                self._rows(n_rows, len(prompt.token_ids))
                self.work.readouts[n_rows] += 1
        self.price_last_token(prompts)

    def price_grid(self, prompts: Sequence[Prompt], vectors: Tensor, cells: Sequence[Cell]) -> None:
        times = 1 + vectors.shape[1] * len(cells)
        for prompt in prompts:
            self._run([prompt])
            self._rows(1, len(prompt.token_ids), times)
            self.work.readouts[1] += times

    def price_targets(self, prompts: Sequence[Prompt], entries: Sequence[Entry]) -> None:
        for which, sizes in self._passes(prompts, len(entries)):
            for n_edits in sizes:
                self._rows(len(which) * n_edits, len(which[0].token_ids))
                self.work.readouts[len(which) * n_edits] += 1

    def price_answers(self, prompts: Sequence[Prompt], entries: Sequence[Entry]) -> None:
        for which, sizes in self._passes(prompts, len(entries), with_answers=True):
            n = len(which[0].answer)
            for n_edits in sizes:
                self._rows(len(which) * n_edits, len(which[0].token_ids), 1, 1 + n)
                self.work.readouts[len(which) * n_edits * n] += 1

    def price_divergences(
        self, prompts: Sequence[Prompt], entries: Sequence[Entry], reference: Sequence[Prompt] | None
    ) -> None:
        for which, _ in self._passes(reference or (), 1):
            self._rows(len(which), len(which[0].token_ids))
        for which, sizes in self._passes(prompts, len(entries)):
            for n_edits in sizes if reference else (1, *sizes):
                self._rows(len(which) * n_edits, len(which[0].token_ids))
            self.work.readouts[len(entries)] += len(which)
            self.work.readouts[1] += 2 * len(which)

    def price_training(self, prompts: Sequence[Prompt], entry: int, steps: int) -> None:
        alike: dict[int, list[Prompt]] = defaultdict(list)
        for prompt in prompts:
            alike[len(prompt.token_ids)].append(prompt)
        share = 1 - entry / self.shape.n_layers
        for n_tokens, every in alike.items():
            size = self._fit(every[0], 0)
            for here in (every[start : start + size] for start in range(0, len(every), size)):
                self._prefix(here)
                self._rows(len(here), n_tokens)  # unedited
                self._rows(len(here), n_tokens, (2 * steps + 1) * share)
                self.work.readouts[len(here)] += 2 + 2 * steps

    def _passes(
        self, prompts: Sequence[Prompt], n_edits: int, with_answers: bool = False
    ) -> Iterator[tuple[list[Prompt], list[int]]]:
        """Yield the prompts that run together, and the number of edits in each of their passes."""
        alike: dict[tuple[int, int], list[Prompt]] = defaultdict(list)
        for prompt in prompts:
            alike[len(prompt.token_ids), len(prompt.answer) if with_answers else 0].append(prompt)
        for (_, n_behind), every in sorted(alike.items()):
            fit = self._fit(every[0], n_behind)
            size = max(1, fit // EDITS_TOGETHER)
            for which in (every[start : start + size] for start in range(0, len(every), size)):
                self._run(which)
                step = max(1, fit // len(which))
                yield which, [min(step, n_edits - start) for start in range(0, n_edits, step)]

    def _fit(self, prompt: Prompt, n_behind: int) -> int:
        return max(1, self.max_rows // (len(prompt.token_ids) + n_behind))
