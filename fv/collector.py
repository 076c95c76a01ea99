"""Python's cyclic garbage collector, paused while objects are made that stay."""

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def paused_collector() -> Iterator[None]:
    """Pause the collector while millions of small objects are made that all stay; it would walk them repeatedly.

    Also a decorator. Objects outside reference cycles are freed as usual.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def loaded(module: str) -> ModuleType:
    """Import a module and its libraries, and exempt them from garbage collection: they stay until the process ends.

    For a module that needs torch and transformers, this saves about a second while loading and another when the process
    ends. Reference cycles that exist by then are never freed, so call it only at the start of a process. A module that
    is already loaded is returned unchanged.
    """
    if module in sys.modules:
        return sys.modules[module]
    with paused_collector():
        found = importlib.import_module(module)
        gc.freeze()
    return found
