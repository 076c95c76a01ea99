"""Kinds of prompts: the three that every trial has, each a field of its own in the snapshot's file (spec section 5)."""

CLEAN = "clean"
"""Few-shot prompt with right demonstrations."""
CORRUPTED = "corrupted"
"""Few-shot prompt with wrong demonstrations."""
ZERO_SHOT = "zero_shot"
"""The query alone."""
PROMPT_KINDS = (CLEAN, CORRUPTED, ZERO_SHOT)
"""The kinds of prompts that every trial has; a trial may have prompts of other names beside them."""


def in_words(kind: str) -> str:
    """The kind as a word of a sentence: `zero-shot`."""
    return kind.replace("_", "-")
