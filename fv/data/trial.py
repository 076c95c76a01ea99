"""The trial: a drawn query with its demonstrations, and the prompts that they become (spec section 5)."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PlainSerializer, WithJsonSchema, model_validator

from fv.data.prompt_kinds import CLEAN, CORRUPTED, PROMPT_KINDS, ZERO_SHOT
from fv.data.relations import Pair, normalise
from fv.data.strict_model import StrictModel
from fv.errors import TrialError

Split: TypeAlias = Literal["fit", "eval"]
WrongOutputs = Literal["deranged", "relation", "permuted"]
"""The sources of a corrupted prompt's outputs (`Draw`)."""
_PAIR = {"type": "object", "properties": {"exA": {"type": "string"}, "exB": {"type": "string"}}}
_Pair = Annotated[Pair, PlainSerializer(Pair._asdict), WithJsonSchema({**_PAIR, "required": ["exA", "exB"]})]
"""A pair that is written as a JSON object; a plain tuple would become a list."""


class Draw(StrictModel):
    """One drawn query with its demonstrations, right and wrong: all of a trial that no template decides.

    `corruption` is the source of the wrong outputs: `deranged` among the demonstrations, drawn from the `relation`, or
    `permuted` among the demonstrations, so that some may stay right. `target_in_corrupted` says whether the right
    answer is an output of the corrupted demonstrations.
    """

    trial_id: str
    q_id: str
    split: Split
    demos: list[_Pair]
    corrupted_demos: list[_Pair]
    corruption: WrongOutputs
    target_in_corrupted: bool
    query: _Pair

    @classmethod
    def of(
        cls,
        trial_id: str,
        q_id: str,
        split: Split,
        query: Pair,
        demos: Sequence[Pair],
        wrong: Sequence[Pair],
        corruption: WrongOutputs,
    ) -> "Draw":
        """The draw of a query with demonstrations, right and wrong."""
        return cls(
            trial_id=trial_id,
            q_id=q_id,
            split=split,
            demos=list(demos),
            corrupted_demos=list(wrong),
            corruption=corruption,
            target_in_corrupted=any(normalise(demo.exB) == normalise(query.exB) for demo in wrong),
            query=query,
        )

    @property
    def shown(self) -> dict[str, Sequence[Pair]]:
        """{kind of prompt: the demonstrations that it shows}."""
        return {CLEAN: self.demos, CORRUPTED: self.corrupted_demos, ZERO_SHOT: ()}


class NamedPrompt(StrictModel):
    """A prompt of a trial beside the three that every trial has, with the demonstrations that it shows."""

    demos: list[_Pair]
    prompt_str: str


class Trial(Draw):
    """One query with its demonstrations, right and wrong, as text and as token ids.

    Every trial has three prompts; `more_prompts` has others by their names, and is not in the file if it is empty.
    """

    clean_prompt_str: str
    corrupted_prompt_str: str
    zero_shot_prompt_str: str
    target_str: str
    target_first_token_id: int
    target_token_ids: list[int]
    more_prompts: dict[str, NamedPrompt] = Field(default={}, exclude_if=lambda prompts: not prompts)

    def __repr__(self) -> str:
        return f"Trial({self.trial_id!r}: {self.query.exA!r} → {self.query.exB!r}, {len(self.demos)} demos)"

    __str__ = __repr__

    @property
    def prompts(self) -> dict[str, str]:
        """{kind: text of the prompt}: `PROMPT_KINDS`, then all others by their names."""
        three = {
            CLEAN: self.clean_prompt_str,
            CORRUPTED: self.corrupted_prompt_str,
            ZERO_SHOT: self.zero_shot_prompt_str,
        }
        return three | {name: prompt.prompt_str for name, prompt in self.more_prompts.items()}

    def prompt(self, kind: str) -> str:
        """The text of one prompt.

        Raises:
            TrialError: the trial has no prompt of this kind.
        """
        if (text := self.prompts.get(kind)) is None:
            raise TrialError(f"The trial {self.trial_id} has no prompt {kind!r}; it has {', '.join(self.prompts)}.")
        return text

    @property
    def shown(self) -> dict[str, Sequence[Pair]]:
        """{kind of prompt: the demonstrations that it shows}, in the order of `prompts`."""
        return super().shown | {name: prompt.demos for name, prompt in self.more_prompts.items()}

    @model_validator(mode="after")
    def _first_token_is_first(self) -> "Trial":
        if not self.target_token_ids or self.target_token_ids[0] != self.target_first_token_id:
            raise ValueError("target_first_token_id is not the first of target_token_ids")
        return self

    @model_validator(mode="after")
    def _names_are_free(self) -> "Trial":
        if taken := [name for name in self.more_prompts if name in PROMPT_KINDS or not name.isidentifier()]:
            raise ValueError(f"more_prompts names {taken[0]!r}, which is no identifier or a prompt of every trial")
        return self
