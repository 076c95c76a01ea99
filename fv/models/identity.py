"""The identity of a model, to check that a thing is used with the model that made it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fv.characters import visible
from fv.errors import ConfigError, warn

if TYPE_CHECKING:
    from fv.models.language_model import LanguageModel

IN_MEMORY = "in memory"
"""The source, in a fingerprint, of a model that was given in memory."""


@dataclass(frozen=True)
class Identity:
    """A model by its name and fingerprint.

    Attributes:
        name: its short name.
        fingerprint: digests of its weights and tokenizer (`LanguageModel.fingerprint`).
    """

    name: str
    fingerprint: Mapping[str, str]

    def __repr__(self) -> str:
        return visible(f"Identity({self.name}, weights {self._digest('weights')[:8]})")

    @classmethod
    def of(cls, lm: "LanguageModel") -> "Identity":
        """The identity of a loaded model."""
        return cls(lm.name, dict(lm.fingerprint))

    def is_comparable(self, other: "Identity") -> bool:
        """True if the digests can be compared: a model in memory has other bytes than its files."""
        return len({own.fingerprint.get("source") == IN_MEMORY for own in (self, other)}) == 1

    def has_other_weights(self, other: "Identity") -> bool:
        """True if the weights are known to differ from those of `other`."""
        return self.is_comparable(other) and self._digest("weights") != other._digest("weights")

    def differences(self, other: "Identity") -> list[str]:
        """Differences of this model from another, each as a part of a sentence; names count only if weights cannot be
        compared."""
        found = []
        if self.has_other_weights(other):
            found.append(f"of the model {self._told(other)}, not {other._told(self)}")
        elif not self.is_comparable(other) and self.name != other.name:
            found.append(
                f"of the model {self.name}, and {other.name} is not known to be the same: weights in memory and in "
                "files cannot be compared"
            )
        elif self._digest("spec") != other._digest("spec"):
            found.append(f"of the model {self.name} under another spec file")
        if not self.has_other_weights(other) and self._digest("tokenizer") != other._digest("tokenizer"):
            found.append(f"of the tokenizer {self._digest('tokenizer')[:8]}, not {other._digest('tokenizer')[:8]}")
        return found

    def _digest(self, of: str) -> str:
        return self.fingerprint.get(f"{of}_sha256", "")

    def _told(self, other: "Identity") -> str:
        """Its name, with its weights' digest if the other model has the same name."""
        return self.name if self.name != other.name else f"{self.name} (weights {self._digest('weights')[:8]})"


def sentence(what: str, differences: Sequence[str]) -> str:
    """A sentence of one or more differences; `what` is the thing with its verb."""
    return f"{what} {' and '.join(differences)}."


def check_made_by(
    what: str,
    made_by: Identity | None,
    lm: "LanguageModel",
    others: Sequence[str] = (),
    remedy: str | None = None,
) -> list[str]:
    """Check that a thing is used with the model that made it.

    Args:
        what: the thing, with its verb: `The added vector is`.
        made_by: the model that made it; None if it is not known, and not compared.
        lm: the model that it is used with.
        others: other differences to report, each as a part of a sentence.
        remedy: a sentence on what to do instead, if numbers of two models must not be mixed; None if they may, such as
            for a vector that is carried over to another model.

    Returns:
        the warnings that were given: one sentence, or none.

    Raises:
        ConfigError: the thing was made by another model, and there is a `remedy`.

    Warns:
        FvWarning: there is any other difference.
    """
    here = Identity.of(lm)
    found = [*(made_by.differences(here) if made_by else ()), *others]
    if not found:
        return []
    told = sentence(what, found)
    if remedy is not None and made_by is not None and made_by.has_other_weights(here):
        raise ConfigError(f"{told} {remedy}")
    warn(told)
    return [told]
