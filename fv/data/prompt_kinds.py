"""Kinds of prompts: the three that every trial has, and their fields in the snapshot's file (spec section 5)."""

CLEAN = "clean"
"""Few-shot prompt with right demonstrations."""
CORRUPTED = "corrupted"
"""Few-shot prompt with wrong demonstrations."""
ZERO_SHOT = "zero_shot"
"""The query alone."""
PROMPT_KINDS = (CLEAN, CORRUPTED, ZERO_SHOT)
"""The kinds of prompts that every trial has; a trial may have prompts of other names beside them."""


def field_of(kind: str) -> str:
    """The field of a trial that holds its prompt of one of `PROMPT_KINDS`, also its name in the file."""
    return f"{kind}_prompt_str"


def in_words(kind: str) -> str:
    """The kind as a word of a sentence: `zero-shot`."""
    return kind.replace("_", "-")
