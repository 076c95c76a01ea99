"""The shared-prefix engine, fast and exact: a prompt is run once, and edits run on extra copies of its last token.

An edit at the last token cannot change an earlier position, so for a prompt of T tokens:

1. *Prompt.* All tokens run once, unedited. Each layer's keys and values of the first T-1 tokens are kept, and the last
   token's residual stream before each block (`fv.interventions.prompt_batch`).
2. *Rows.* Copies of the last token, one per edit, run as extra positions of the sequence, with the tokens after it if
   there are any. A row enters at the first block whose result its edit changes: before, it equals the unedited row
   (`fv.interventions.rows`).
3. *Attention.* A row sees only the prefix and itself (`fv.interventions.prefix_attention`).
4. *Readout.* Final norm and unembedding of the rows, scored at the target (`fv.interventions.readout`).

Many prompts share a pass. The last block's MLP, the final norm and the unembedding of the prefix are skipped, because
no output needs them. `docs/engine.md` says why this is exact, and for which models it is not allowed. It agrees with
the naive engine within 2e-5 in log p (`tests/interventions/test_sweep_parity.py`).
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from itertools import groupby
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from fv.interventions import readout
from fv.interventions.edit import LastTokenEdit
from fv.interventions.edits.set_heads import SetHeads
from fv.interventions.engine import AnswerReads, Cell, Head, LastToken, PatchScores, TargetScores, check_vectors
from fv.interventions.grid_passes import inject_batch
from fv.interventions.kept_prompts import KeptPrompts
from fv.interventions.passes import in_fused_pass
from fv.interventions.prefix_attention import shared_prefix_mode
from fv.interventions.prompt_batch import Continuation, PromptBatch
from fv.interventions.rows import run_rows
from fv.interventions.scored_rows import answers_of, targets_of
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.progress import Advance, ignore_progress

P = ParamSpec("P")
R = TypeVar("R")
Method = Callable[Concatenate["SharedPrefixEngine", P], R]


def _in_pass(method: Method[P, R]) -> Method[P, R]:
    """Run a method of the engine in a fused pass, with the model's attention in `shared_prefix_mode`."""

    @in_fused_pass
    @wraps(method)
    def run(engine: "SharedPrefixEngine", *args: P.args, **kwargs: P.kwargs) -> R:
        with shared_prefix_mode(engine.lm):
            return method(engine, *args, **kwargs)

    return run


class SharedPrefixEngine:
    """Implements `fv.interventions.engine.Engine`; at most `max_rows` token rows go through the model in one pass."""

    def __init__(self, lm: LanguageModel, max_rows: int) -> None:
        self.lm = lm
        self.max_rows = max_rows
        self._kept: KeptPrompts[PromptBatch] = KeptPrompts()

    def keeping(self, most_bytes: int) -> AbstractContextManager[None]:
        return self._kept.keeping(most_bytes)

    def batches(self, prompts: Sequence[Prompt], rows_each: int) -> list[slice]:
        """Batches of neighbouring prompts, each with at most `max_rows` rows and at most `max_rows` prompt tokens."""
        found, start, longest = [], 0, 0
        for i, prompt in enumerate(prompts):
            longest = max(longest, len(prompt.token_ids))
            if i > start and (i + 1 - start) * max(rows_each, longest) > self.max_rows:
                found.append(slice(start, i))
                start, longest = i, len(prompt.token_ids)
        return [*found, slice(start, len(prompts))]

    @_in_pass
    def last_token(self, prompts: Sequence[Prompt]) -> LastToken:
        return LastToken.cat([_unedited(batch) for _, batch in self._batches(prompts)])

    @_in_pass
    def patch_heads(
        self, prompts: Sequence[Prompt], head_values: Tensor, heads: Sequence[Head], advance: Advance = ignore_progress
    ) -> PatchScores:
        values = head_values.to(self.lm.device, self.lm.dtype)
        by_layer = sorted(heads)
        columns = [by_layer.index(head) for head in heads]
        scored = []
        for part, batch in self._batches(prompts, rows_each=1 + len(heads)):
            scored.append(self._patch_batch(batch, prompts[part], by_layer, values))
            advance(part.stop - part.start)
        unedited, unpatched, patched = zip(*scored, strict=True)
        return PatchScores(LastToken.cat(unedited), torch.cat(unpatched)[:, columns], torch.cat(patched)[:, columns])

    def _patch_batch(
        self, batch: PromptBatch, prompts: Sequence[Prompt], heads: Sequence[Head], values: Tensor
    ) -> PatchScores:
        """Patch heads, sorted by layer, in chunks that leave room for the unpatched row 0."""
        before, after = [], []
        step = self.max_rows - 1
        for chunk in (heads[start : start + step] for start in range(0, len(heads), step)):
            rows = run_rows(batch, [None, *(SetHeads((head,), values) for head in chunk)])
            logprob = targets_of(batch.lm, rows, prompts)  # (batch, 1 + n_heads)
            # Row 0 is unpatched, and also counts for a patch that changes nothing: equal rows of one matrix product
            # may still differ in their last bits.
            column = torch.arange(1, len(chunk) + 1).where(_changes_residual(batch, chunk, values), 0)
            before.append(logprob[:, :1].expand(-1, len(chunk)))
            after.append(logprob.gather(1, column))
        return PatchScores(_unedited(batch), torch.cat(before, 1), torch.cat(after, 1))

    @_in_pass
    def inject(
        self, prompts: Sequence[Prompt], vectors: Tensor, cells: Sequence[Cell], advance: Advance = ignore_progress
    ) -> tuple[TargetScores, TargetScores]:
        check_vectors(prompts, vectors, self.lm.d_model)
        vectors = vectors.to(self.lm.device, self.lm.dtype)
        baseline, injected = [], []
        for part, batch in self._batches(prompts):
            injected.append(inject_batch(batch, vectors[part], cells, self.max_rows, advance))
            baseline.append(_own_scores(batch))
        return TargetScores.cat(baseline), TargetScores.cat(injected)

    @_in_pass
    def target_logprobs(self, prompts: Sequence[Prompt], edits: Sequence[LastTokenEdit]) -> Tensor:
        def read(_batch: PromptBatch, part: slice, rows: Tensor) -> Tensor:
            return targets_of(self.lm, rows, prompts[part])

        return self._read(prompts, edits, read)

    @_in_pass
    def answers(
        self, prompts: Sequence[Prompt], edits: Sequence[LastTokenEdit], advance: Advance = ignore_progress
    ) -> list[AnswerReads]:
        found: dict[int, AnswerReads] = {}
        alike: dict[int, list[int]] = defaultdict(list)
        for i, prompt in enumerate(prompts):
            alike[len(prompt.answer)].append(i)
        for n, which in sorted(alike.items()):
            here = [prompts[i] for i in which]
            for part, batch in self._batches(here):
                own = here[part]
                continued = batch.continued(torch.tensor([p.answer for p in own]))
                reads = self._answers(continued, own, edits, (1 + n) * len(own), advance)
                found.update(zip(which[part], reads, strict=True))
        return [found[i] for i in range(len(prompts))]

    def _answers(
        self,
        continued: Continuation,
        prompts: Sequence[Prompt],
        edits: Sequence[LastTokenEdit],
        rows_each: int,
        advance: Advance,
    ) -> list[AnswerReads]:
        """Read the answers, which are equally long, of the prompts of one batch."""
        order, parts = [], []
        for which, chunk in self._chunks(edits, rows_each):
            order.append(which)
            parts.append(answers_of(self.lm, run_rows(continued, chunk), prompts))
            advance(len(prompts) * len(chunk))
        places = _places(order)
        return [AnswerReads.cat(own)[places] for own in zip(*parts, strict=True)]

    @_in_pass
    def divergences(
        self,
        prompts: Sequence[Prompt],
        edits: Sequence[LastTokenEdit],
        reference: Sequence[Prompt] | None = None,
    ) -> Tensor:
        others = None if reference is None else torch.cat([b.residual[-1] for _, b in self._batches(reference)])

        def read(batch: PromptBatch, part: slice, rows: Tensor) -> Tensor:
            own = batch.residual[-1] if others is None else others[part]  # (batch, 1, d_model)
            pairs = zip(own, rows[:, :, 0], strict=True)
            return torch.stack([readout.divergences(self.lm, before, after) for before, after in pairs])

        return self._read(prompts, edits, read)

    def _read(
        self,
        prompts: Sequence[Prompt],
        edits: Sequence[LastTokenEdit],
        read: Callable[[PromptBatch, slice, Tensor], Tensor],
    ) -> Tensor:
        """Read a number per row, (n_prompts, n_edits), by `read`.

        It takes a batch, its part of the prompts, and its rows.
        """
        found = []
        for part, batch in self._batches(prompts):
            chunks = list(self._chunks(edits, part.stop - part.start))
            numbers = torch.cat([read(batch, part, run_rows(batch, chunk)) for _, chunk in chunks], 1)
            found.append(numbers[:, _places([which for which, _ in chunks])])
        return torch.cat(found)

    @_in_pass
    def run_prompts(self, prompts: Sequence[Prompt]) -> PromptBatch:
        """Run the prompts of one batch (`batches`), unless they are kept."""
        return self._run(prompts)

    def _run(self, prompts: Sequence[Prompt]) -> PromptBatch:
        return self._kept.of(prompts, lambda these: PromptBatch(self.lm, these))

    def _batches(self, prompts: Sequence[Prompt], rows_each: int = 1) -> Iterator[tuple[slice, PromptBatch]]:
        """Yield the prompts that share a pass, as slices and as batches that have been run."""
        for part in self.batches(prompts, rows_each):
            yield part, self._run(prompts[part])

    def _chunks(
        self, edits: Sequence[LastTokenEdit], rows_each: int
    ) -> Iterator[tuple[list[int], list[LastTokenEdit]]]:
        """Yield edits that fit in a pass, with their places.

        The edits of a pass enter at neighbouring blocks, so that few rows run through more blocks than they need.
        """
        order = sorted(range(len(edits)), key=lambda i: -1 if (edit := edits[i]) is None else edit.first_block)
        step = max(1, self.max_rows // rows_each)
        for which in (order[start : start + step] for start in range(0, len(order), step)):
            yield which, [edits[i] for i in which]


def _places(order: Sequence[Sequence[int]]) -> Tensor:
    """The place of each edit in the concatenated chunks."""
    return torch.tensor([i for which in order for i in which], dtype=torch.long).argsort()


def _own_scores(batch: PromptBatch) -> TargetScores:
    """The prompts' own scores, (batch,)."""
    return readout.target_scores(batch.lm, batch.residual[-1][:, 0], batch.targets)


def _unedited(batch: PromptBatch) -> LastToken:
    lm = batch.lm
    # (batch, n_layers, n_heads * head_dim) -> (batch, n_layers, n_heads, head_dim)
    outputs = torch.stack([batch.head_outputs[layer].to(lm.device) for layer in range(lm.n_layers)], 1)
    residual = torch.cat([part.to(lm.device) for part in batch.residual[1:]], 1)  # (batch, n_layers, d_model)
    return LastToken(_own_scores(batch), outputs.unflatten(-1, (lm.n_heads, lm.head_dim)), residual)


def _changes_residual(batch: PromptBatch, heads: Sequence[Head], values: Tensor) -> Tensor:
    """True where patching a head changes the residual stream: (batch, n_heads) bool on the CPU."""
    lm, changes = batch.lm, []
    for layer, group in groupby(heads, key=lambda h: h.layer):
        here = [h.head for h in group]
        own = batch.head_outputs[layer].view(-1, lm.n_heads, lm.head_dim)  # (batch, n_heads, head_dim)
        weight = lm.out_weight(layer).reshape(lm.d_model, lm.n_heads, lm.head_dim)
        change = values[layer, here].to(own.device) - own[:, here]
        added = torch.einsum("bhk,dhk->bhd", change, weight[:, here])
        changes.append((added != 0).any(-1).cpu())
    return torch.cat(changes, 1)
