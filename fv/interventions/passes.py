"""Passes of engines: they run the model in engine mode, and refuse a model with active edits of its user."""

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
    """An object with a model: an engine."""

    lm: LanguageModel


Runner = TypeVar("Runner", bound=HasModel | LanguageModel)


@contextmanager
def engine_pass(lm: LanguageModel) -> Iterator[None]:
    """Run a model in the mode of engines, without gradients (`fv.models.engine_mode`).

    Raises:
        ModelError: edits of its user are active in it, and would act besides the engine's.
    """
    if edits_at_work(lm.model):
        raise ModelError(f"{lm.name} is being edited, and engines edit it themselves: leave the block of edits first.")
    with engine_mode(lm.model):
        yield


def in_engine_pass(function: Callable[Concatenate[Runner, P], R]) -> Callable[Concatenate[Runner, P], R]:
    """Run a function inside `engine_pass`; its first argument is a model, or an engine with its model."""

    @wraps(function)
    def run(first: Runner, *args: P.args, **kwargs: P.kwargs) -> R:
        with engine_pass(first if isinstance(first, LanguageModel) else first.lm):
            return function(first, *args, **kwargs)

    return run


def in_fused_pass(function: Callable[Concatenate[Runner, P], R]) -> Callable[Concatenate[Runner, P], R]:
    """Run a function as `in_engine_pass` does, with the proved modules fused (`fv.interventions.fused`)."""

    @in_engine_pass
    @wraps(function)
    def run(first: Runner, *args: P.args, **kwargs: P.kwargs) -> R:
        with fused_modules(first if isinstance(first, LanguageModel) else first.lm):
            return function(first, *args, **kwargs)

    return run
