"""Which model made something, and whether it is the one that it is used with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fv.characters import visible
from fv.errors import ConfigError, warn

if TYPE_CHECKING:
    from fv.models.language_model import LanguageModel

IN_MEMORY = "in memory"
"""The source of a model that was handed over and not loaded."""


@dataclass(frozen=True)
class Identity:
    """A model by its name and fingerprint.

    Attributes:
        name: its short name.
        fingerprint: what identifies its weights and tokenizer (`LanguageModel.fingerprint`).
    """

    name: str
    fingerprint: Mapping[str, str]

    def __repr__(self) -> str:
        return visible(f"Identity({self.name}, weights {self._digest('weights')[:8]})")

    @classmethod
    def of(cls, lm: "LanguageModel") -> "Identity":
        """That of a model at hand."""
        return cls(lm.name, dict(lm.fingerprint))

    def is_comparable(self, other: "Identity") -> bool:
        """Whether both digests are of bytes of one kind: a model's in memory are others than those of its files."""
        return len({own.fingerprint.get("source") == IN_MEMORY for own in (self, other)}) == 1

    def has_other_weights(self, other: "Identity") -> bool:
        """Whether it is known to be another model than `other`."""
        return self.is_comparable(other) and self._digest("weights") != other._digest("weights")

    def differences(self, other: "Identity") -> list[str]:
        """What of this model is not so of another, each as half a sentence. A name counts only where weights cannot be
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
        """Its name; with its weights' digest where another model goes by the same one."""
        return self.name if self.name != other.name else f"{self.name} (weights {self._digest('weights')[:8]})"


def sentence(what: str, differences: Sequence[str]) -> str:
    """Differences, one or more, of something that is named with its verb."""
    return f"{what} {' and '.join(differences)}."


def check_made_by(
    what: str,
    made_by: Identity | None,
    lm: "LanguageModel",
    others: Sequence[str] = (),
    remedy: str | None = None,
) -> list[str]:
    """Check that what a model made is used with that model.

    Args:
        what: it, with its verb: `The added vector is`.
        made_by: the model; None where it is not known, and nothing can be said.
        lm: the model that it is used with.
        others: other differences, each as half a sentence, which are told, too.
        remedy: a sentence on what to do instead, where numbers of two models must not meet; None where they may, as
            where a vector is carried over to another model.

    Returns:
        what was warned of: a sentence, or nothing.

    Raises:
        ConfigError: there is a `remedy`, and it is of another model.

    Warns:
        FvWarning: there is a difference.
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
