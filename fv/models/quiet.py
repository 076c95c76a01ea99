"""Quiet loading: transformers without its own log lines and progress bars."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
from transformers.utils import logging


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Show only errors and no bars inside the block; afterwards, level and bars are restored."""
    logger = logging.get_logger()
    level, bars, no_hub_bars = logger.level, logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    logging.set_verbosity_error()
    if bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            # Both calls also switch the hub's bars, which the user may have turned off separately.
            logging.enable_progress_bar()
            if no_hub_bars:
                disable_progress_bars()
