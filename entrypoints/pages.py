"""The page of a finished run: written where it is wanted and can be."""

from fv.config import Config, PageForm
from fv.display import print_text
from fv.progress import activity


def write_page(config: Config) -> None:
    """Write the page of `config`'s run and print its path, last of all; a line says where the extra is missing."""
    if config.report.page is PageForm.none:
        return
    try:
        with activity("Writing the page"):
            from fv.report.page import report_page

            said = f"Page: {report_page(config)}"
    except ImportError as error:
        said = f"No page was written. {error}"
    if not config.quiet:
        print_text(said, in_one_piece=True)
