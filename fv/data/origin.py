"""Which model and which prompts something was measured with: goes with effects and vectors into their files."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from fv.config import TemplateConfig
from fv.data.snapshot import Snapshot
from fv.errors import ArtifactError
from fv.models.language_model import LanguageModel, weights_of

IN_MEMORY = "in memory"
"""The source of a model that was handed over and not loaded."""


@dataclass(frozen=True)
class Origin:
    """Where numbers come from.

    Attributes:
        model: the model's short name.
        weights: what identifies its weights and tokenizer (`LanguageModel.fingerprint`).
        template: how pairs became text.
        add_special_tokens: whether prompts had the tokenizer's special tokens.
    """

    model: str
    weights: dict[str, str]
    template: TemplateConfig
    add_special_tokens: bool

    @classmethod
    def of(cls, lm: LanguageModel, snapshot: Snapshot) -> "Origin":
        """What is measured of a model on the trials of a snapshot."""
        return cls.named(lm.name, lm.fingerprint, snapshot)

    @classmethod
    def named(cls, model: str, weights: dict[str, str], snapshot: Snapshot) -> "Origin":
        """The same of a model that is known by its name and fingerprint."""
        meta = snapshot.meta
        return cls(model, dict(weights), TemplateConfig(**meta.template), meta.add_special_tokens)

    @classmethod
    def parse(cls, value: Any) -> "Origin":
        """Read back what `as_json` gave.

        Raises:
            ArtifactError: it is something else.
        """
        names = {each.name for each in fields(cls)}
        if not isinstance(value, dict) or set(value) != names or not isinstance(value["template"], dict):
            raise ArtifactError(f"An origin has {', '.join(sorted(names))}, and this is {value!r}.")
        weights = value["weights"]
        of_text = isinstance(weights, dict) and all(isinstance(each, str) for each in weights.values())
        if not of_text or not isinstance(value["model"], str) or not isinstance(value["add_special_tokens"], bool):
            raise ArtifactError(
                f"An origin names a model, its digests and whether special tokens are added: {value!r}."
            )
        return cls(**{**value, "template": TemplateConfig(**value["template"])})

    def as_json(self) -> dict[str, Any]:
        """As a JSON value."""
        return asdict(self)

    @property
    def prompt_ending(self) -> str:
        """The text that every prompt ends with, behind the query's input."""
        return self.template.query.rpartition("{exA}")[2]

    def differences(self, other: "Origin") -> list[str]:
        """What of this origin is not so of another, each as half a sentence; names of models do not count."""
        found = []
        # The digest of a model in memory is of other bytes than that of its files.
        comparable = len({own.weights.get("source") == IN_MEMORY for own in (self, other)}) == 1
        if comparable and weights_of(self.weights) != weights_of(other.weights):
            found.append(f"of the model {self.model}, not {other.model}")
        if self.template != other.template:
            found.append(f"of prompts like {self.template.query!r}, not {other.template.query!r}")
        elif self.add_special_tokens != other.add_special_tokens:
            found.append(f"of prompts {'with' if self.add_special_tokens else 'without'} special tokens")
        return found
