"""Limits of a self-check: what each of its measurements must be for a model to pass."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from fv.interventions.selfcheck import tolerances_of
from fv.models.language_model import LanguageModel


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
