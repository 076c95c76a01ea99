"""A language model that its user edits and lets speak: what `load_model` and `wrap` return."""

from dataclasses import dataclass

from fv.interventions.selfcheck import SKIPPED, selfcheck
from fv.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False)
class EditableModel(LanguageModel):
    """A `LanguageModel` that is proved and ready for edits."""


def editable(lm: LanguageModel, proved: bool = True) -> EditableModel:
    """The model with what its self-check measured.

    Args:
        lm: the model.
        proved: whether the self-check is made; without it nothing says that edits act where the spec has them.

    Raises:
        SpecError: the self-check refuses the model.
    """
    found = selfcheck(lm) if proved else SKIPPED
    return EditableModel(lm.model, lm.tokenizer, lm.spec, lm.name, lm.fingerprint, found)
