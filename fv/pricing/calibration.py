"""Calibration: timings of passes on this machine, with a few blocks of the model's shape and random weights."""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from fv.errors import ConfigError
from fv.interventions import readout
from fv.interventions.passes import engine_pass
from fv.interventions.prefix_attention import shared_prefix_mode
from fv.interventions.prompt_batch import PromptBatch
from fv.interventions.prompt_cache import PromptCache
from fv.models.files import first_line
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.models.quiet import quiet_transformers
from fv.pricing.shape import Shape
from fv.pricing.throughput import MeasuredThroughput, Points

BEYOND_CACHE = 2**27
"""Bytes of the timed blocks, 128 MB: more than a processor's cache, so that weights are read from memory as in a whole
model."""
MOST_WEIGHTS = 2**31
"""Bytes of the largest model made for timing, 2 GB."""
SIZES = (1, 8, 16, 32, 64, 128, 256, 512)
"""Numbers of rows that are timed, up to the largest pass; more rows are no faster per row (docs/engine.md)."""
TOKENS = (8, 64, 512)
"""Numbers of prompt tokens that are timed."""
FEW = 2
"""Number of blocks for timing many rows, where computing takes longer than reading weights."""
READ = 256
"""Largest number of rows timed at the unembedding, since its products are already large."""
AT_LEAST = 0.05
"""Seconds for which each size is run, and at least twice."""


def calibrated(lm: LanguageModel, shape: Shape, n_tokens: int, largest: int) -> MeasuredThroughput:
    """Measure how long passes take on this machine.

    Args:
        lm: the model, which may be on the meta device; only its configuration is used.
        shape: its shape.
        n_tokens: approximate number of tokens of a prompt.
        largest: largest number of rows in one pass.

    Raises:
        ConfigError: a few blocks of the model do not fit in memory, or cannot be built on their own.
    """
    blocks = _few_blocks(lm, shape)
    sizes = [size for size in SIZES if size <= largest]
    with engine_pass(blocks):
        timing = _shared(blocks, n_tokens) if shape.shares_prefixes else _cached(blocks, n_tokens)
        rows = {n: timing.rows(n) for n in sizes}
        prompts = {n: timing.prompts(n) for n in TOKENS}
        readouts = _readouts(blocks, shape, [size for size in sizes if size <= READ])
    return MeasuredThroughput(prompts, rows, readouts, torch.get_num_threads())


@dataclass(frozen=True)
class _Timing:
    """Seconds of one block: `rows(n)` on n rows, `prompts(n)` on prompts with about n tokens in total."""

    rows: Callable[[int], float]
    prompts: Callable[[int], float]


def _few_blocks(lm: LanguageModel, shape: Shape) -> LanguageModel:
    """Build a model of the same shape with random weights, a few blocks, and a small vocabulary."""
    block_bytes = max(1, shape.block_weights * shape.itemsize)
    n_blocks = min(shape.n_layers, max(2, -(-BEYOND_CACHE // block_bytes)))
    if (needed := n_blocks * block_bytes) > MOST_WEIGHTS:
        raise ConfigError(
            f"Two blocks of {shape.name} are {needed / 2**30:.1f} GB, too large to time here: give the throughput."
        )
    config = deepcopy(lm.model.config)
    config.num_hidden_layers = n_blocks
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = config.layer_types[:n_blocks]
    config.vocab_size = min(shape.vocabulary, 256)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(config, name, None)
    try:
        with quiet_transformers(), torch.random.fork_rng():
            model = AutoModelForCausalLM.from_config(config, dtype=lm.dtype, attn_implementation="eager")
    except Exception as error:  # families fail in different ways if they have fewer blocks than usual
        raise ConfigError(f"A few blocks of {shape.name} cannot be timed: {first_line(error)}") from error
    return LanguageModel(model.eval().requires_grad_(False), None, lm.spec, lm.name, {})


def _shared(lm: LanguageModel, n_tokens: int) -> _Timing:
    """Timing of the engine that shares prefixes."""

    def run(n: int) -> PromptBatch:
        with shared_prefix_mode(lm):
            return PromptBatch(lm, [Prompt(ids, (0,)) for ids in _ids(lm, n, n_tokens)])

    batch = run(n_tokens)

    def rows(n: int) -> float:
        n_blocks = lm.n_layers if n < SIZES[-1] else FEW

        def through() -> None:
            hidden = batch.residual[0].expand(-1, n, -1)  # (1, n, d_model)
            for layer in range(n_blocks):
                hidden = batch.run_block(layer, hidden)

        with shared_prefix_mode(lm):
            return _seconds(through) / n_blocks

    return _Timing(rows, lambda n: _seconds(lambda: run(n)) / (lm.n_layers - 1))


def _cached(lm: LanguageModel, n_tokens: int) -> _Timing:
    """Timing of the engines that copy a prefix's cache, or share nothing."""
    cache = PromptCache(lm, _ids(lm, n_tokens, n_tokens))
    return _Timing(
        lambda n: _seconds(lambda: cache.rows([None] * n)) / lm.n_layers,
        lambda n: _seconds(lambda: PromptCache(lm, _ids(lm, n, n_tokens))) / lm.n_layers,
    )


def _ids(lm: LanguageModel, n: int, n_tokens: int) -> list[tuple[int, ...]]:
    """Token ids of prompts with about `n` tokens in total, each with at most `n_tokens`."""
    prompt = tuple(i % lm.vocabulary for i in range(min(n, n_tokens)))
    return [prompt] * max(1, round(n / n_tokens))


def _readouts(lm: LanguageModel, shape: Shape, sizes: list[int]) -> Points:
    """{number of rows: seconds of their unembedding}, scaled from the part of the vocabulary that fits in memory."""
    entries = min(shape.vocabulary, max(readout.TILE_LOGITS, BEYOND_CACHE // (shape.d_model * shape.itemsize)))
    head = torch.nn.Linear(shape.d_model, entries, bias=False, dtype=lm.dtype)
    lm.model.set_output_embeddings(head.requires_grad_(False))
    found = {}
    for n in sizes:
        rows, targets = torch.randn(n, shape.d_model, dtype=lm.dtype), torch.zeros(n, dtype=torch.long)
        found[n] = _seconds(lambda rows=rows, t=targets: _read(lm, rows, t)) * shape.vocabulary / entries  # type: ignore[misc]
    return found


def _read(lm: LanguageModel, rows: Tensor, targets: Tensor) -> None:
    readout.target_logprobs(lm, rows, targets)


def _seconds(work: Callable[[], Any]) -> float:
    """Seconds of the shortest of several runs, which was disturbed least."""
    taken: list[float] = []
    while len(taken) < 2 or sum(taken) < AT_LEAST:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)
