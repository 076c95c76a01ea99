"""The page of a run: one file that opens from disk and asks nothing of any server, and the figures beside it."""

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
from fv.config.report import FORMATS
from fv.errors import FvError
from fv.evaluation.summary import records
from fv.files import reading, write_text, write_whole
from fv.report.about import command_of, hashes_of, made_with, settings_of
from fv.report.analysis_figures import analysis_figures
from fv.report.facts import Facts
from fv.report.findings import finding_of, what_to_mind, what_was_done
from fv.report.inline_svg import inline_svg
from fv.report.limits import LIMITS, Limits
from fv.report.page_tables import tables_of
from fv.report.pictures import Picture, pictures_of
from fv.report.scripts import licence, scripts
from fv.report.trial_list import ANSWERS, trial_list
from fv.runs.paths import FIGURES, PAGE, RunPaths
from fv.runs.run import Run, opened


def report_page(config: Config) -> Path:
    """Write the page of `config`'s run, under its tag, with figures in `report.formats`; returns its path.

    Raises:
        ArtifactError: there is no finished StepD, or a file is missing or was changed.
    """
    return write_page(opened(RunPaths.of(config)), config.report.formats)


def write_page(run: Run, formats: Sequence[str] = ("svg",), limits: Limits = LIMITS) -> Path:
    """Write `report/index.html` and `report/figures/` into a run's folder, those of a tag into `report/<tag>/`.

    The same run gives the same bytes, on the same versions of this project, matplotlib, Jinja2 and itables. What has
    not run is said and left out. A run that is too large for one page is cut, with a notice.

    Args:
        run: the run.
        formats: of the figures' files: svg, pdf, png. In PDF and PNG a letter that DejaVu Sans lacks (Korean, some
            Arabic) is an empty box.
        limits: how much the page holds.

    Returns:
        the page.

    Raises:
        FvError: a format is none of these.
        ArtifactError: a file is missing or was changed.
    """
    unknown = sorted({*formats} - {*FORMATS})
    if unknown:
        raise FvError(f"formats={list(formats)}: {unknown[0]!r} is none of {', '.join(FORMATS)}.")
    with reading(run.paths.root):
        facts = Facts(run)
        pictures = pictures_of(facts, limits)
        html = rendered("page.html", pictures, **_content(facts, limits))
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
    """A page as HTML. All text of data and models is escaped; figures and the two scripts are ours."""
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


def _content(facts: Facts, limits: Limits) -> dict[str, Any]:
    run, own = facts.run, records(facts.own)
    return {
        "title": f"{run.config['model']['name']}: {run.config['data']['name']}, seed {run.config['seed']}",
        "tag": run.paths.tag,
        "done": what_was_done(facts),
        "findings": [(row["eval_qid"], finding_of(facts, row)) for row in own[: limits.findings]],
        "n_findings_cut": max(0, len(own) - limits.findings),
        "mind": what_to_mind(facts),
        "drawn": list(analysis_figures(run)),
        "n_relations": len(facts.q_ids),
        "most_relations": limits.relations,
        "most_names": limits.names,
        "tables": tables_of(facts, limits.rows),
        "browser": trial_list(facts, limits),
        "answers": list(ANSWERS.values()),
        "command": command_of(run),
        "settings": settings_of(run),
        "made_with": made_with(run),
        "hashes": hashes_of(run),
    }


def save_picture(picture: Picture, path: Path, form: str) -> None:
    """Write a figure of the page into a file: svg, pdf or png."""
    with warnings.catch_warnings():
        # Documented: letters that the font lacks are empty boxes in PDF and PNG.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        write_whole(path, lambda unfinished: picture.figure.savefig(unfinished, format=form))
