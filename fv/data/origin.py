"""The origin of numbers: the model and prompts behind effects, vectors and results, kept in their files."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from pydantic import JsonValue

from fv.characters import visible
from fv.config import TemplateConfig
from fv.data.snapshot import Snapshot
from fv.errors import ArtifactError
from fv.models.identity import Identity, check_made_by
from fv.models.language_model import LanguageModel


@dataclass(frozen=True)
class Origin:
    """The model and prompts that numbers were measured with.

    Attributes:
        model: the model's short name.
        weights: digests of its weights and tokenizer (`LanguageModel.fingerprint`).
        template: the template of the prompts.
        add_special_tokens: whether prompts had the tokenizer's special tokens.
    """

    model: str
    weights: dict[str, str]
    template: TemplateConfig
    add_special_tokens: bool

    def __repr__(self) -> str:
        return visible(f"Origin({self.model}, prompts like {self.template.query!r})")

    @classmethod
    def of(cls, lm: LanguageModel, snapshot: Snapshot) -> "Origin":
        """The origin of measurements of a model on the trials of a snapshot."""
        return cls.named(lm.name, lm.fingerprint, snapshot)

    @classmethod
    def named(cls, model: str, weights: dict[str, str], snapshot: Snapshot) -> "Origin":
        """The origin of measurements of a model that is given by its name and fingerprint."""
        return cls(model, dict(weights), snapshot.template, snapshot.meta.add_special_tokens)

    @classmethod
    def parse(cls, value: Any) -> "Origin":
        """Read back the result of `as_json`.

        Raises:
            ArtifactError: the value has another form.
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

    def as_json(self) -> dict[str, JsonValue]:
        """The origin as a JSON value."""
        return asdict(self)

    @property
    def prompt_ending(self) -> str:
        """The text after the query's input, with which every prompt ends."""
        return self.template.query.rpartition("{exA}")[2]

    @property
    def identity(self) -> Identity:
        """The identity of the model."""
        return Identity(self.model, self.weights)

    def differences(self, other: "Origin") -> list[str]:
        """Differences of this origin from another, each as a part of a sentence."""
        return [*self.identity.differences(other.identity), *self.other_prompts(other)]

    def other_prompts(self, other: "Origin") -> list[str]:
        """The first difference of its prompts from another origin's, as a part of a sentence; else empty."""
        for part in ("query", "demo", "target"):
            own, there = (getattr(each.template, part) for each in (self, other))
            if own != there:
                return [f"of prompts like {own!r}, not {there!r}"]
        if self.add_special_tokens != other.add_special_tokens:
            return [f"of prompts {'with' if self.add_special_tokens else 'without'} special tokens"]
        return []


def check_origin(
    what: str, origin: Origin | None, lm: LanguageModel, snapshot: Snapshot | None = None, remedy: str | None = None
) -> list[str]:
    """Check that a thing is used with the model that made it (`check_made_by`), and with prompts of the same kind.

    Args:
        what: the thing, with its verb: `The vector antonym is`.
        origin: the model and prompts that it was made with; None if they are unknown, and nothing is checked.
        lm: the model that it is used with.
        snapshot: the trials that it is used on, if any.
        remedy: as for `check_made_by`.

    Returns:
        the warnings that were given: one sentence, or none.

    Raises:
        ConfigError: the thing was made by another model, and there is a `remedy`.

    Warns:
        FvWarning: the thing was made with another model, tokenizer or template.
    """
    if origin is None:
        return []
    others = [] if snapshot is None else origin.other_prompts(Origin.of(lm, snapshot))
    return check_made_by(what, origin.identity, lm, others, remedy)
