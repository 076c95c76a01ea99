"""Limits of the self-check: the allowed values of its measurements, and the lengths of its prompts."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from fv.models.language_model import LanguageModel

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.1}
"""Largest allowed difference of two ways to the same number, relative to its size (in log p: absolute): far above
rounding, and far below the effect of a wrong module or mask."""
PACKED_TOLERANCE = 0.01
"""The tolerance for weights in 4 bits: some processors' kernels for them round activations to bfloat16."""
TF32_TOLERANCE = TOLERANCE[torch.float16]
"""The tolerance for float32 products in TF32, which has as many bits of mantissa as float16."""
BFLOAT16_ENGINES = 0.8
"""Largest allowed difference of two engines in log p in bfloat16, which has three bits less than float16: it rounds a
logit of 20 to a sixteenth, and SmolLM2's naive engine differs by 0.25 from float32."""

LONGEST = 1024
"""Tokens of the longest window or chunk of attention past which engines are compared, which takes a few seconds. Longer
ones are found by their masks, which are checked for every longer prompt (`fv.interventions.masks`)."""
SPAN = re.compile("window|chunk(?!.*feed_forward)")
"""Pattern of names in a configuration that give the tokens of a window or a chunk."""


class Limit(NamedTuple):
    """The limit of a measurement: `≤` or `>` a number, or `true`."""

    sign: str
    number: float = 1.0

    def admits(self, value: Any) -> bool:
        """True if a measurement, or each measurement of a mapping, is within the limit."""
        if isinstance(value, Mapping):
            return all(map(self.admits, value.values()))
        if self.sign == "true":
            return value is True
        return value > self.number if self.sign == ">" else value <= self.number

    def __str__(self) -> str:
        return self.sign if self.sign == "true" else f"{self.sign} {self.number:g}"


def limits_of(lm: LanguageModel) -> dict[str, Limit]:
    """The limits of the measurements of `fv.interventions.selfcheck.selfcheck`, by name; some have none."""
    tolerance, between_engines = tolerances_of(lm)
    same, close, agreeing = Limit("true"), Limit("≤", tolerance), Limit("≤", between_engines)
    found = {
        "identity_bit_equal": same,
        "zeroed_head_max_change": Limit(">", 0.0),
        "sum_of_heads_error": close,
        "context_left_without_attention": close,
        "injection_read_back_exactly": same,
        "mlp_error": close,
        "logits_error": close,
        "sweep_vs_naive": agreeing,
        "answers_vs_naive": agreeing,
        "past_windows_vs_naive": agreeing,
    }
    if not lm.spec.post_norm:  # for post-norm families it is not measured
        found["parallel_block_error"] = close if lm.parallel else Limit(">", tolerance)
    return found


def spans_of(config: Any) -> list[int]:
    """Lengths, in tokens, of the windows and chunks of attention that a Hugging Face configuration names."""
    named = config.to_dict().items()
    return [value for name, value in named if SPAN.search(name) and type(value) is int and value > 1]


def tolerances_of(lm: LanguageModel) -> tuple[float, float]:
    """The tolerances of a model: for two ways to the same number, and for two engines in log p."""
    tolerance = TOLERANCE.get(lm.dtype, 0.3)
    if not lm.out_projs[0].weight.dtype.is_floating_point:
        tolerance = max(tolerance, PACKED_TOLERANCE)
    if lm.device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32:
        tolerance = max(tolerance, TF32_TOLERANCE)
    return tolerance, BFLOAT16_ENGINES if lm.dtype is torch.bfloat16 else tolerance
