"""A language model that its user edits and lets speak: what `load_model` and `wrap` return."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, overload

from fv.interventions.editing import edited
from fv.interventions.edits import AnyEdit
from fv.interventions.generation import Text, generate
from fv.interventions.positions import Positions
from fv.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False, repr=False)
class EditableModel(LanguageModel):
    """A `LanguageModel` that is proved and ready for edits."""

    def edited(
        self, edits: AnyEdit | Sequence[AnyEdit], positions: str = Positions.last_prompt
    ) -> AbstractContextManager[None]:
        """Edit the model for as long as the block lasts, whoever runs it: `generate`, or the model itself.

        Edits act in every forward of `model` inside the block, and in its own `generate`: greedy, sampled or by beams,
        with and without a cache, in padded batches (by `attention_mask`). Inside a call of `generate`, the prompt is
        what it was given. Elsewhere, a forward without cached tokens is a prompt of its own, and one of a single token
        on the cache of such a forward runs a generated token. Several edits act in the order given, and blocks inside
        one another from the outer to the inner. Afterwards the model is as it was, also after an error.

        Example:
            >>> with lm.edited(fv.AddVector(11, 3 * torch.ones(lm.d_model))):
            ...     text = lm.generate("Q: hot\\nA:", max_new_tokens=2)

        Args:
            edits: an `AddVector`, `SetHeads` or `ReplaceResidual`, or several of them.
            positions: `last_prompt`, the last token of each prompt; `all`, every token of prompt and continuation; or
                `generated`, the tokens behind the prompt (the last of which is generated and never run).

        Raises:
            ConfigError: at once, that an edit does not fit the model or would change nothing, or that there are no such
                positions.
            ModelError: inside the block, that it is not known what the prompt is (packed prompts, masks of another
                shape, static caches, assisted decoding, a cache that was begun elsewhere), or that an engine of ours
                would run; on leaving it, that nothing was edited.

        Warns:
            FvWarning: at once, that a vector is of another model.
        """
        return edited(self, edits, positions)

    @overload
    def generate(  # type: ignore[overload-overlap]  # a text is a sequence of texts, too
        self, prompts: Text, max_new_tokens: int = 20
    ) -> str: ...

    @overload
    def generate(self, prompts: Sequence[Text], max_new_tokens: int = 20) -> list[str]: ...

    def generate(self, prompts: Text | Sequence[Text], max_new_tokens: int = 20) -> str | list[str]:
        """What the model says behind prompts, by greedy decoding, whatever its generation settings are.

        Prompts of several lengths run in one batch, padded on the left; the tokenizer needs no padding token. Texts are
        encoded as those of trials are, with the special tokens that the tokenizer adds by itself.

        Example:
            >>> lm.generate("The capital of France is", max_new_tokens=1)
            ' Paris'

        Args:
            prompts: a text, a `Prompt`, or a list of them.
            max_new_tokens: most tokens to generate; fewer where the model ends its text.

        Returns:
            what follows the prompt, without it and without special tokens; a list of them for a list.

        Raises:
            ConfigError: what is given are no prompts, or `max_new_tokens` is no number from 1.
            ModelError: a prompt is empty, or too long together with `max_new_tokens`; the tokenizer closes texts; or
                the model gives numbers that are not finite (`NotFiniteError`).

        Warns:
            FvWarning: a prompt does not end with the `prompt_ending` of an `AddVector` that is at work.
        """
        return generate(self, prompts, max_new_tokens)


def editable(lm: LanguageModel, proof: dict[str, Any]) -> EditableModel:
    """A model, ready for edits, with what its self-check measured."""
    return EditableModel(lm.model, lm.tokenizer, lm.spec, lm.name, lm.fingerprint, proof)
