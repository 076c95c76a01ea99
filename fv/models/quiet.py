"""Transformers without its own log lines and progress bars, for as long as something is loaded."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
from transformers.utils import logging


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Only errors and no bars inside; afterwards the level and the bars are what they were."""
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
            # Both calls set the hub's bars as well, which someone may have turned off by themselves.
            logging.enable_progress_bar()
            if no_hub_bars:
                disable_progress_bars()
