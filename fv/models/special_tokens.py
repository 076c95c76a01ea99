"""Special tokens around a prompt (BOS): those that a tokenizer adds by itself, and the setting that uses them.

The setting is a request. A snapshot records whether prompts really have special tokens, and every prompt is encoded by
that record.
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
    """The special tokens around each prompt, as text; `used` is the record of a snapshot."""
    return added_tokens(tokenizer) if used else []


def adds_special_tokens(tokenizer: Any, setting: str | bool) -> bool:
    """True if prompts get special tokens: the setting allows them, and the tokenizer has some to add.

    Args:
        tokenizer: the model's tokenizer.
        setting: `add_special_tokens` of a `ModelConfig`, or the record of a snapshot.
    """
    return setting is not False and bool(added_tokens(tokenizer))


def special_tokens_warning(
    tokenizer: Any, used: bool, setting: str | bool = ModelConfig.add_special_tokens, name: str = "add_special_tokens"
) -> str | None:
    """A line about special tokens that are missing from the prompts; None if nothing is missing.

    Args:
        tokenizer: the model's tokenizer.
        used: whether prompts have special tokens, by the record of a snapshot.
        setting: the requested setting, if it is known: `true` cannot add tokens that the tokenizer does not have.
        name: the name of the setting in the line.
    """
    added = added_tokens(tokenizer)
    if added and not used:
        return (
            f"Prompts are encoded without {' '.join(added)}, which this tokenizer adds to every text by itself; the "
            f"model may do far worse without. {name}=auto adds it."
        )
    if setting is True and not added:
        return f"{name}=true adds nothing: this tokenizer adds no special tokens by itself. Say auto or false."
    return None
