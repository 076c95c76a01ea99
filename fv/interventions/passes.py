"""What an engine's passes run in: the model in the state that engines need, and nobody else's edits in it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from fv.errors import ModelError
from fv.interventions.editing import edits_at_work
from fv.interventions.fused import fused_modules
from fv.models.engine_mode import engine_mode
from fv.models.language_model import LanguageModel

P = ParamSpec("P")
R = TypeVar("R")


class HasModel(Protocol):
    """What runs a model: an engine."""

    lm: LanguageModel


Runner = TypeVar("Runner", bound=HasModel | LanguageModel)


@contextmanager
def engine_pass(lm: LanguageModel) -> Iterator[None]:
    """Run a model as a loaded one runs, without gradients (`fv.models.engine_mode`).

    Raises:
        ModelError: its user's edits are at work in it, and would act beside an engine's own.
    """
    if edits_at_work(lm.model):
        raise ModelError(f"{lm.name} is being edited, and engines edit it themselves: leave the block of edits first.")
    with engine_mode(lm.model):
        yield


def in_engine_pass(function: Callable[Concatenate[Runner, P], R]) -> Callable[Concatenate[Runner, P], R]:
    """A function whose first argument is a model, or an engine with its model, run inside `engine_pass`."""

    @wraps(function)
    def run(first: Runner, *args: P.args, **kwargs: P.kwargs) -> R:
        with engine_pass(first if isinstance(first, LanguageModel) else first.lm):
            return function(first, *args, **kwargs)

    return run


def in_fused_pass(function: Callable[Concatenate[Runner, P], R]) -> Callable[Concatenate[Runner, P], R]:
    """The same, with element-wise code fused where the model's self-check proved it (`fv.interventions.fused`)."""

    @in_engine_pass
    @wraps(function)
    def run(first: Runner, *args: P.args, **kwargs: P.kwargs) -> R:
        with fused_modules(first if isinstance(first, LanguageModel) else first.lm):
            return function(first, *args, **kwargs)

    return run
