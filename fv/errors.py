"""Errors that a user can fix; each message says how (spec section 7)."""

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
    """Something that may be intended but is more often a mistake.

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
    """Trials cannot be sampled from a relation as requested."""


class ModelError(FvError):
    """A model cannot be found, loaded, or edited at the modules that its spec names."""


class SpecError(ModelError):
    """A family's spec does not fit this model."""


class EngineError(ModelError):
    """An engine would not be exact for these prompts of this model; another engine is."""


class MemoryLackError(ModelError):
    """A single prompt of a model does not fit in the free memory."""


class NotFiniteError(ModelError):
    """A model returns numbers that are NaN or infinite."""


class ScopeError(ConfigError):
    """A vector cannot be evaluated on the requested relations."""


class NoVectorError(ConfigError):
    """A maker's edits are no injections of a vector."""


class DevTrialsError(TrialError):
    """A relation has too few trials to choose a cell on some and report on others."""


class ArtifactError(FvError):
    """A file is missing, stale, truncated, or does not belong to the others."""


class ClusterError(FvError):
    """Workers of a cluster cannot be started, or did not do their tasks."""


class PluginError(FvError):
    """Two plug-ins of installed packages have the same name."""


def warn(message: str) -> None:
    """Issue an `FvWarning` at the line of the user's own code that led here."""
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
