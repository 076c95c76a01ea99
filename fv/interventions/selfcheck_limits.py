"""Limits of a self-check: what each of its measurements must be for a model to pass, and how long its prompts are."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from fv.models.language_model import LanguageModel

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.1}
"""How far two ways to the same number may be apart, relative to its size (in log p: absolutely): far above rounding,
far below what a wrong module or mask does."""
PACKED_TOLERANCE = 0.01
"""The same for weights in 4 bits: some processors' kernels for them round activations to bfloat16."""
TF32_TOLERANCE = TOLERANCE[torch.float16]
"""The same for float32 products in TF32, which has as many bits of mantissa as float16."""
BFLOAT16_ENGINES = 0.8
"""How far two engines may be apart in log p in bfloat16, with three bits less than float16: it holds a logit of 20 to a
sixteenth, and SmolLM2's naive loop is 0.25 off the one in float32."""

LONGEST = 1024
"""Tokens of the longest window or chunk of attention past which the engines are compared: a few seconds' work. For
longer ones there are the masks, which are looked at whenever longer prompts are run (`fv.interventions.masks`)."""
SPAN = re.compile("window|chunk(?!.*feed_forward)")
"""Names in a configuration that count the tokens of a window or a chunk."""


class Limit(NamedTuple):
    """What a measurement must be: `≤` or `>` a number, or `true`."""

    sign: str
    number: float = 1.0

    def admits(self, value: Any) -> bool:
        """Whether a measurement, or each of a mapping of them, is within the limit."""
        if isinstance(value, Mapping):
            return all(map(self.admits, value.values()))
        if self.sign == "true":
            return value is True
        return value > self.number if self.sign == ">" else value <= self.number

    def __str__(self) -> str:
        return self.sign if self.sign == "true" else f"{self.sign} {self.number:g}"


def limits_of(lm: LanguageModel) -> dict[str, Limit]:
    """The limit of each measurement of `fv.interventions.selfcheck.selfcheck` that has one, by its name."""
    tolerance, between_engines = tolerances_of(lm)
    same, close, agreeing = Limit("true"), Limit("≤", tolerance), Limit("≤", between_engines)
    found = {
        "identity_bit_equal": same,
        "zeroed_head_max_change": Limit(">", 0.0),
        "sum_of_heads_error": close,
        "context_left_without_attention": close,
        "injection_read_back_exactly": same,
        "logits_error": close,
        "sweep_vs_naive": agreeing,
        "answers_vs_naive": agreeing,
        "past_windows_vs_naive": agreeing,
    }
    if not lm.spec.post_norm:  # there it is not measured
        found["parallel_block_error"] = close if lm.parallel else Limit(">", tolerance)
    return found


def spans_of(config: Any) -> list[int]:
    """How many tokens windows and chunks of attention have, as far as a Hugging Face configuration names them."""
    named = config.to_dict().items()
    return [value for name, value in named if SPAN.search(name) and type(value) is int and value > 1]


def tolerances_of(lm: LanguageModel) -> tuple[float, float]:
    """How far two ways to a model's numbers may be apart, and how far two engines may be in log p."""
    tolerance = TOLERANCE.get(lm.dtype, 0.3)
    if not lm.out_projs[0].weight.dtype.is_floating_point:
        tolerance = max(tolerance, PACKED_TOLERANCE)
    if lm.device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32:
        tolerance = max(tolerance, TF32_TOLERANCE)
    return tolerance, BFLOAT16_ENGINES if lm.dtype is torch.bfloat16 else tolerance
