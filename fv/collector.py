"""Python's cyclic garbage collector, kept from walking objects that stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


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


@contextmanager
def frozen_afterwards() -> Iterator[None]:
    """Pause it while what stays until the process ends is made, as libraries are, and have it never walk that again.

    Of a command that loads torch and transformers, this saves about a second while they are loaded, and another one
    when the process ends. No cycle of what was there is ever freed: this is for the beginning of a process.
    """
    with paused_collector():
        yield
        gc.freeze()
