"""Errors a user can mend, each with a message that says how (spec section 7)."""

import sys
import warnings
from collections.abc import Iterable
from typing import Any, TypeVar

from fv.characters import visible

T = TypeVar("T")


class FvError(Exception):
    """Base of every error whose message tells the user what to do.

    Example:
        >>> try: fv.load_trials("no.json")
        ... except fv.FvError as error: print(error)
        no.json is missing.
    """

    def __str__(self) -> str:
        return visible(super().__str__())


class FvWarning(UserWarning):
    """Something that may be meant, but is more often a mistake.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(): warnings.simplefilter("error", fv.FvWarning)
    """

    def __str__(self) -> str:
        return visible(super().__str__())


class ConfigError(FvError):
    """A setting is wrong, or contradicts another setting."""


class RelationError(FvError):
    """A relation file cannot be read as `q_id, exA, exB` rows."""


class TrialError(FvError):
    """Trials cannot be sampled from a relation as asked."""


class ModelError(FvError):
    """A model cannot be found, loaded, or edited where its spec says."""


class SpecError(ModelError):
    """What a family's spec says is not so in this model."""


class EngineError(ModelError):
    """An engine would not be exact for these prompts of this model; another one is."""


class MemoryLackError(ModelError):
    """A single prompt of a model does not fit the memory that is free."""


class NotFiniteError(ModelError):
    """A model gives numbers that are not finite."""


class NormsError(ConfigError):
    """A strength is told against norms of the residual stream that were not measured."""


class ScopeError(ConfigError):
    """A vector cannot be evaluated on the relations it is asked of."""


class DevTrialsError(TrialError):
    """A relation has too few trials to choose on some and report on others."""


class ArtifactError(FvError):
    """A file is missing, stale, truncated, or does not belong with the others."""


class ClusterError(FvError):
    """Workers elsewhere cannot be had, or did not do what they were given."""


class PluginError(FvError):
    """What installed packages add cannot be told apart."""


def warn(message: str) -> None:
    """Warn by an `FvWarning` at the line of the user's own code that led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals["__name__"].partition(".")[0] == __package__:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, FvWarning, stacklevel=level)


def shorten(items: list[str], limit: int = 12) -> str:
    """Join `items` for a message, naming at most `limit` of them."""
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown}, … ({len(items)} in all)"


def one_of(name: str, value: Any, choices: Iterable[T], error: type[FvError] = ConfigError) -> T:
    """Return the choice that equals a value: the member of an enum for its text.

    Args:
        name: the value's name in a message.
        value: the value.
        choices: all choices.
        error: the class of the error.

    Raises:
        FvError: no choice equals the value; names all of them. Its class is `error`.

    Example:
        >>> one_of("colour", "blue", ["red", "blue"])
        'blue'
    """
    known = [*choices]
    for choice in known:
        if choice == value:
            return choice
    raise error(f"{name}={value!r} must be one of {', '.join(map(str, known))}.")
