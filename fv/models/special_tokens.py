"""Special tokens around a prompt (BOS): those a tokenizer adds by itself, whether they are used, and what is warned of.

The setting is a wish; what a snapshot records, and every prompt is encoded with, is what it comes to.
"""

from collections import Counter
from typing import Any

from fv.config import ModelConfig
from fv.models.token_ids import token_ids_of_a


def added_tokens(tokenizer: Any) -> list[str]:
    """The special tokens that a tokenizer puts around a text by itself, in order of first appearance."""
    plain, framed = token_ids_of_a(tokenizer)
    return tokenizer.convert_ids_to_tokens(list((Counter(framed) - Counter(plain)).elements()))


def used_tokens(tokenizer: Any, used: bool) -> list[str]:
    """The special tokens around each prompt, as text; `used` is what a snapshot records."""
    return added_tokens(tokenizer) if used else []


def adds_special_tokens(tokenizer: Any, setting: str | bool) -> bool:
    """Whether prompts get special tokens under a setting: False too where the tokenizer has none to add.

    Args:
        tokenizer: the model's tokenizer.
        setting: `add_special_tokens` of a `ModelConfig`, or what a snapshot recorded of it.
    """
    return setting is not False and bool(added_tokens(tokenizer))


def special_tokens_warning(
    tokenizer: Any, used: bool, setting: str | bool = ModelConfig.add_special_tokens, name: str = "add_special_tokens"
) -> str | None:
    """One line about special tokens that are missing from the prompts; None where they are as the tokenizer has them.

    Args:
        tokenizer: the model's tokenizer.
        used: whether prompts have special tokens, as a snapshot records it.
        setting: what was asked for, where it is known: `true` cannot add what the tokenizer does not have.
        name: what the line calls the setting.
    """
    added = added_tokens(tokenizer)
    if added and not used:
        return (
            f"Prompts are encoded without {' '.join(added)}, which this tokenizer adds to every text by itself; the "
            f"model may do far worse so. {name}=auto adds it."
        )
    if setting is True and not added:
        return f"{name}=true adds nothing: this tokenizer adds no special tokens by itself. Say auto or false."
    return None
