"""How a command ends in an error: with one line, unless a traceback is asked for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import CompactHydraException

from fv.characters import visible
from fv.errors import FvError


class UserError(CompactHydraException):
    """Hydra prints this kind without a traceback, unless HYDRA_FULL_ERROR=1."""


def traceback_wanted() -> bool:
    """Whether HYDRA_FULL_ERROR=1 asks for tracebacks."""
    return os.environ.get("HYDRA_FULL_ERROR") == "1"


@contextmanager
def user_errors() -> Iterator[None]:
    """Whatever goes wrong inside becomes a `UserError`."""
    try:
        yield
    except CompactHydraException:
        raise
    except FvError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        told = f"{error.strerror or error}: {error.filename or ''}. What was finished is kept."
        raise UserError(visible(told)) from error
    except Exception as error:
        raise UserError(visible(f"Unexpected {type(error).__name__}: {error}")) from error
