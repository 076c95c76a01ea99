"""A prompt with its target, as a model reads them."""

from typing import NamedTuple


class Prompt(NamedTuple):
    """A prompt as token ids, and what is right and wrong behind it.

    Attributes:
        token_ids: the prompt.
        answer: the right answer's token ids, the first of them at least.
        wrong: first tokens of the relation's outputs that are wrong here, where answers are told from these.
        name: what messages call it, such as "the clean prompt of the trial antonym/3".
    """

    token_ids: tuple[int, ...]
    answer: tuple[int, ...]
    wrong: tuple[int, ...] = ()
    name: str = ""

    @property
    def target(self) -> int:
        """The token that is scored: the answer's first one."""
        return self.answer[0]
