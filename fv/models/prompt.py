"""The prompt: token ids, with the answer that is scored."""

from typing import NamedTuple


class Prompt(NamedTuple):
    """A prompt as token ids, with its right answer and wrong answers.

    Attributes:
        token_ids: the prompt.
        answer: the right answer's token ids, or only the first of them.
        wrong: first tokens of the relation's outputs that are wrong here; empty if they are not compared.
        name: its name in messages, such as "the clean prompt of the trial antonym/3".
    """

    token_ids: tuple[int, ...]
    answer: tuple[int, ...]
    wrong: tuple[int, ...] = ()
    name: str = ""

    @property
    def target(self) -> int:
        """The token that is scored: the answer's first token."""
        return self.answer[0]
