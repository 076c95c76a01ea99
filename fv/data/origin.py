"""The model and prompts that something was measured with: goes with effects, vectors and results into their files."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from fv.characters import visible
from fv.config import TemplateConfig
from fv.data.snapshot import Snapshot
from fv.errors import ArtifactError, TrialError
from fv.models.identity import Identity, check_made_by
from fv.models.language_model import LanguageModel


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

    def __repr__(self) -> str:
        return visible(f"Origin({self.model}, prompts like {self.template.query!r})")

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

    @property
    def identity(self) -> Identity:
        """The model."""
        return Identity(self.model, self.weights)

    def differences(self, other: "Origin") -> list[str]:
        """Differences of this origin from another, each as half a sentence."""
        return [*self.identity.differences(other.identity), *self.other_prompts(other)]

    def other_prompts(self, other: "Origin") -> list[str]:
        """The first difference of its prompts from another's, as half a sentence, if there is one."""
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
    """Check that what a model made is used with that model, as `check_made_by` does, and with prompts of the same kind.

    Args:
        what: it, with its verb: `The vector antonym is`.
        origin: what it was made with; None where that is not known, and nothing can be said.
        lm: the model that it is used with.
        snapshot: the trials that it is used on, if any.
        remedy: as of `check_made_by`.

    Returns:
        what was warned of: a sentence, or nothing.

    Raises:
        ConfigError: there is a `remedy`, and it is of another model.

    Warns:
        FvWarning: it is of another model, tokenizer or template.
    """
    if origin is None:
        return []
    others = [] if snapshot is None else origin.other_prompts(Origin.of(lm, snapshot))
    return check_made_by(what, origin.identity, lm, others, remedy)


def refuse_other_tokenizer(lm: LanguageModel, snapshot: Snapshot) -> None:
    """Refuse trials whose answers are tokens of another tokenizer.

    Raises:
        TrialError: naming both.
    """
    there, here = snapshot.meta.tokenizer["sha256"], lm.fingerprint["tokenizer_sha256"]
    if there != here:
        raise TrialError(
            f"trials were tokenised by another tokenizer than {lm.name}'s ({snapshot.meta.tokenizer['class']}, "
            f"{there[:12]}; here {here[:12]}): sample them with this model."
        )
