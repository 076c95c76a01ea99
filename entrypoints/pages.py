"""Pages of finished runs: written if the settings request one and the extra `report` is installed."""

import importlib

from fv.config import Config, PageForm
from fv.display import print_text
from fv.progress import activity


def write_page(config: Config, writer: str) -> None:
    """Write a page, and print its path or a line on the missing extra.

    Args:
        config: the settings.
        writer: `<module>.<function>` of `fv.report`, which writes it and returns its path.
    """
    if config.report.page is PageForm.none:
        return
    try:
        with activity("Writing the page"):
            module, _, function = writer.partition(".")
            message = f"Page: {getattr(importlib.import_module(f'fv.report.{module}'), function)(config)}"
    except ImportError as error:
        message = f"No page was written. {error}"
    if not config.quiet:
        print_text(message, in_one_piece=True)
