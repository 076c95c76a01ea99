"""Page of a run: one HTML file that opens from disk without any server, and files of its figures."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

try:
    import itables  # noqa: F401
    import matplotlib  # noqa: F401
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
except ImportError as error:
    raise ImportError("A page needs Jinja2, itables, matplotlib: pip install 'function-vectors[report]'.") from error

from fv.config import Config
from fv.config.report import check_formats
from fv.evaluation.summary import records
from fv.files import reading, write_text, write_whole
from fv.report.analysis_figures import analysis_figures
from fv.report.findings import finding_of, what_to_mind, what_was_done
from fv.report.inline_svg import inline_svg
from fv.report.limits import LIMITS, Limits
from fv.report.page_tables import tables_of
from fv.report.pictures import Picture, pictures_of
from fv.report.provenance import command_of, hashes_of, made_with, settings_of
from fv.report.results import RunResults
from fv.report.scripts import licence, scripts
from fv.report.trial_list import ANSWERS, trial_list
from fv.runs.paths import FIGURES, PAGE, RunPaths
from fv.runs.run import Run, opened


def report_page(config: Config) -> Path:
    """Write the page of `config`'s run, under its tag, with figures in `report.formats`; returns its path.

    Raises:
        ArtifactError: StepD has not finished, or a file is missing or was changed.
    """
    return write_page(opened(RunPaths.of(config)), config.report.formats)


def write_page(run: Run, formats: Sequence[str] = ("svg",), limits: Limits = LIMITS) -> Path:
    """Write `index.html` and `figures/` into the run's folder `report/`, or for a tag into `report/<tag>/`.

    The same run gives the same bytes, with the same versions of this project, matplotlib, Jinja2 and itables. Steps
    that have not run are named and left out. A run that is too large for one page is cut, with a notice.

    Args:
        run: the run.
        formats: formats of the figures' files: svg, pdf, png. In PDF and PNG, a letter that DejaVu Sans lacks (Korean,
            some Arabic) is an empty box.
        limits: the limits of the page.

    Returns:
        the page.

    Raises:
        ConfigError: a format is not one of these.
        ArtifactError: a file is missing or was changed.
    """
    check_formats("formats", formats)
    with reading(run.paths.root):
        results = RunResults(run)
        pictures = pictures_of(results, limits)
        html = rendered("page.html", pictures, **_content(results, limits))
    return write_files(run.paths.report, html, pictures, formats)


def write_files(folder: Path, html: str, pictures: Sequence[Picture], formats: Sequence[str]) -> Path:
    """Write a page as `index.html` and its figures into `figures/`; returns the page's path."""
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        for form in formats:
            save_picture(picture, folder / FIGURES / f"{picture.name}.{form}", form)
    page = folder / PAGE
    write_text(page, html)
    return page


def rendered(template: str, pictures: Sequence[Picture], **content: Any) -> str:
    """Render a page as HTML. All text of data and models is escaped; figures and the two scripts are our own."""
    loader = PackageLoader("fv.report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(
        figures=[(each, Markup(inline_svg(each))) for each in pictures],
        scripts=[(Markup(script.text), script.sha256) for script in scripts()],
        licence=licence(),
        **content,
    )


def _content(results: RunResults, limits: Limits) -> dict[str, object]:
    run, own = results.run, records(results.own)
    return {
        "title": f"{run.config.model.name}: {run.config.data.name}, seed {run.config.seed}",
        "tag": run.paths.tag,
        "done": what_was_done(results),
        "findings": [(row["eval_qid"], finding_of(results, row)) for row in own[: limits.findings]],
        "n_findings_cut": max(0, len(own) - limits.findings),
        "mind": what_to_mind(results),
        "drawn": list(analysis_figures(run)),
        "n_relations": len(results.q_ids),
        "most_relations": limits.relations,
        "most_names": limits.names,
        "tables": tables_of(results, limits.rows),
        "browser": trial_list(results, limits),
        "answers": list(ANSWERS.values()),
        "command": command_of(run),
        "settings": settings_of(run),
        "made_with": made_with(run),
        "hashes": hashes_of(run),
    }


def save_picture(picture: Picture, path: Path, form: str) -> None:
    """Write a figure of the page into a file: svg, pdf or png."""
    with warnings.catch_warnings():
        # As documented, letters that the font lacks become empty boxes in PDF and PNG.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        write_whole(path, lambda unfinished: picture.figure.savefig(unfinished, format=form))
