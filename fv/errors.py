"""Errors a user can mend. Entrypoints print their message without a traceback (spec section 7)."""


class FvError(Exception):
    """Base of every error whose message tells the user what to do."""


class ConfigError(FvError):
    """A setting is wrong, or contradicts another setting."""


class RelationError(FvError):
    """A relation file cannot be read as `q_id, exA, exB` rows."""


class TrialError(FvError):
    """Trials cannot be sampled from a relation as asked."""


class ModelError(FvError):
    """A model cannot be found, loaded, or edited where its spec says."""


class ArtifactError(FvError):
    """A file of a run is missing, stale, truncated, or belongs to another run."""


def shorten(items: list[str], limit: int = 12) -> str:
    """Join `items` for a message, naming at most `limit` of them."""
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown}, … ({len(items)} in all)"
