"""Errors of a command: it ends with one line, unless a traceback is requested."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import CompactHydraException

from fv.characters import visible
from fv.errors import FvError


class UserError(CompactHydraException):
    """An error that Hydra prints without a traceback, unless HYDRA_FULL_ERROR=1."""


def traceback_wanted() -> bool:
    """True if HYDRA_FULL_ERROR=1 requests tracebacks."""
    return os.environ.get("HYDRA_FULL_ERROR") == "1"


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn every error inside this context into a `UserError`."""
    try:
        yield
    except CompactHydraException:
        raise
    except FvError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        message = f"{error.strerror or error}: {error.filename or ''}. Finished work is kept."
        raise UserError(visible(message)) from error
    except Exception as error:
        raise UserError(visible(f"Unexpected {type(error).__name__}: {error}")) from error
