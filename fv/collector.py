"""Python's cyclic garbage collector, kept from walking objects that stay."""

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def paused_collector() -> Iterator[None]:
    """Pause it while millions of small objects are made that all stay: it would walk them again and again.

    Also a decorator. Objects in no cycle are freed as ever.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def loaded(module: str) -> ModuleType:
    """A module with the libraries that it imports, which stay until the process ends: they are never walked again.

    Of one that needs torch and transformers, this saves about a second while they are loaded, and another one when the
    process ends. No cycle of what was there is ever freed: this is for the beginning of a process. What is loaded
    already is given as it is.
    """
    if module in sys.modules:
        return sys.modules[module]
    with paused_collector():
        found = importlib.import_module(module)
        gc.freeze()
    return found
