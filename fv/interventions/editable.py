"""The editable model, which `load_model` and `wrap` return: its user edits it and generates text."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import overload

from fv.files import JsonObject
from fv.interventions.edit import Edit
from fv.interventions.editing import edited
from fv.interventions.generation import Text, generate
from fv.interventions.positions import Positions
from fv.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False, repr=False)
class EditableModel(LanguageModel):
    """A `LanguageModel` that is proved and ready for edits."""

    def edited(
        self, edits: Edit | Sequence[Edit], positions: str = Positions.last_prompt
    ) -> AbstractContextManager[None]:
        """Edit the model for as long as the block lasts, in `generate` and in direct calls of the model.

        Edits act in every forward of `model` inside the block, and in its own `generate`: greedy, sampled or by beams,
        with and without a cache, in padded batches (by `attention_mask`). In a call of `generate`, the prompt is the
        input of that call. Elsewhere, a forward without cached tokens runs a new prompt, and a forward of a single
        token on the cache of such a forward runs a generated token. Several edits act in the given order, and nested
        blocks from the outer to the inner. Afterwards the model is restored, also after an error.

        Example:
            >>> with lm.edited(fv.AddVector(11, 3 * torch.ones(lm.d_model))):
            ...     text = lm.generate("Q: hot\\nA:", max_new_tokens=2)

        Args:
            edits: an `AddVector`, a `SetHeads` or another `Edit`, or several of them.
            positions: `last_prompt`, the last token of each prompt; `all`, every token of prompt and continuation; or
                `generated`, the tokens after the prompt (but the last generated token is never run, so never edited).

        Raises:
            ConfigError: immediately: an edit does not fit the model or would change nothing, or `positions` is unknown.
            ModelError: inside the block: the prompt's positions cannot be determined (packed prompts, masks of another
                shape, static caches, assisted decoding, a cache that was begun outside), or an engine of this project
                would run; at the end of the block: nothing was edited.

        Warns:
            FvWarning: immediately: a vector comes from another model.
        """
        return edited(self, edits, positions)

    @overload
    def generate(  # type: ignore[overload-overlap]  # a text is also a sequence of texts
        self, prompts: Text, max_new_tokens: int = 20
    ) -> str: ...

    @overload
    def generate(self, prompts: Sequence[Text], max_new_tokens: int = 20) -> list[str]: ...

    def generate(self, prompts: Text | Sequence[Text], max_new_tokens: int = 20) -> str | list[str]:
        """Continue prompts by greedy decoding, whatever the model's generation settings are.

        Prompts of different lengths run in one batch, padded on the left; the tokenizer needs no padding token. Texts
        are encoded in the same way as trials, with the special tokens that the tokenizer adds by itself.

        Example:
            >>> lm.generate("The capital of France is", max_new_tokens=1)
            ' Paris'

        Args:
            prompts: a text, a `Prompt`, or a list of them.
            max_new_tokens: most tokens to generate; fewer if the model ends its text.

        Returns:
            the continuation, without the prompt and without special tokens; a list of continuations for a list.

        Raises:
            ConfigError: `prompts` are no prompts, or `max_new_tokens` is not a whole number of 1 or more.
            ModelError: a prompt is empty, or too long together with `max_new_tokens`; the tokenizer adds a token after
                texts; or the model returns numbers that are not finite (`NotFiniteError`).

        Warns:
            FvWarning: a prompt does not end with the `prompt_ending` of an active edit.
        """
        return generate(self, prompts, max_new_tokens)


def editable(lm: LanguageModel, proof: JsonObject) -> EditableModel:
    """Make an editable model of a model and the measurements of its self-check."""
    return EditableModel(lm.model, lm.tokenizer, lm.spec, lm.name, lm.fingerprint, proof)
