"""Terminal output: the results of a finished run, printed as tables and sentences."""

from collections.abc import Iterable
from pathlib import Path

from fv.config import Config
from fv.display import print_table, print_text
from fv.errors import ArtifactError, shorten
from fv.files import reading
from fv.report.closing_notes import closing_notes, top_heads
from fv.report.closing_tables import print_answers, print_baselines, print_effects
from fv.report.headline import null_ps
from fv.report.null import null_sentence, print_null
from fv.report.rankings import print_stepd, print_stepe
from fv.report.screen import screen_report_of, screen_sentences
from fv.report.seeds import OVER_SEEDS, print_over_seeds
from fv.report.summary import Summary
from fv.runs.paths import FV_META, TOP_HEADS, RunPaths, refuse_links, run_folder
from fv.runs.run import Run, has_finished_stepd, open_run, opened, opened_step6
from fv.tables import TableRow
from fv.vectors.kinds import GLOBAL, OF_AIE, OWN
from fv.vectors.names import source_name


def print_report(step6: Path) -> None:
    """Print the effects of the chosen injections on the test trials, per vector and relation.

    Args:
        step6: the folder of Step6's artifacts.
    """
    _print_step6(opened_step6(step6))


def _print_step6(run: Run) -> None:
    summary = Summary(run.summary)
    if run.summary.chosen and "mean_delta_logprob" in run.summary.chosen[0]:
        title = f"Zero-shot answers of {run.step('Step6').record.config.model.name} with function vectors injected"
        print_effects(title, summary, null_ps(run))
        how, *winners = closing_notes(summary)
        print_text(how)
        if summary.headline:
            print_answers(summary)
        if summary.has_held_out:
            print_baselines(summary)
        if named := top_heads(summary, _ranked(run)):
            print_text(named)
        _print_lines(winners)
        if said := null_sentence(run):
            print_text(said)
    else:
        print_text("No cell was chosen (evaluation.dev_fraction=0); every cell is in eval_summary.json.")
    if said := screen_sentences(screen_report_of(run)):
        print_text(said)
    _print_lines(f"Mind: {line}" for line in run.summary.warnings)
    print_text(f"Run: {run.paths.root}", in_one_piece=True)


def print_gathered(folder: Path) -> None:
    """Print the results gathered into `folder`: the cells of a sweep, or runs over their seeds."""
    if (folder / OVER_SEEDS).exists():
        print_over_seeds(folder)
    else:
        print_report(folder)


def print_analyses(analyses: Path) -> None:
    """Print the names and tables of a run's analyses; `analyses` is their folder."""
    run = open_run(run_folder(analyses))
    rows = [(name, ", ".join(each.table_names) or "none") for name, each in run.analyses.items()]
    print_table("Analyses", ("name", "tables"), rows, n_text=2)
    print_null(run)
    print_text(f"In: {analyses}", in_one_piece=True)


def print_heads(run: Path) -> None:
    """Print the results of StepD in the run's folder `run`."""
    print_stepd(open_run(run))
    print_text(f"Run: {run}", in_one_piece=True)


def print_vectors(stepe: Path) -> None:
    """Print the results of StepE; `stepe` is the folder of its artifacts."""
    run = run_folder(stepe / FV_META)
    print_stepe(open_run(run, None if stepe.name == "artifacts" else stepe.name))
    print_text(f"Run: {run}", in_one_piece=True)


def report(config: Config) -> Path:
    """Print the tables of every step that has finished in `config`'s run, under its tag.

    Returns:
        the run's folder.

    Raises:
        ArtifactError: there is no such run, or none of its steps has finished.
    """
    paths = RunPaths.of(config)
    refuse_links(paths.root)
    if not has_finished_stepd(paths):
        there = sorted(path.parent.name for path in paths.root.parent.glob("*/artifacts"))
        named = f"There are {shorten(there, 40)}." if there else f"There are none in {paths.root.parent}."
        raise ArtifactError(f"No step has finished in {paths.root}. Name a run (and its tag): run_id=<run_id>. {named}")
    run = opened(paths)
    with reading(paths.root):
        print_stepd(run)
        if "StepE" in run.outputs and run.outputs["StepE"][0] == paths.stepe:
            print_stepe(run)
        if "Step6" in run.outputs:
            _print_step6(run)
    _print_lines(f"Mind: {line}" for line in run.stale)
    return paths.root


def _ranked(run: Run) -> dict[str, list[TableRow]]:
    """{source of a vector: its heads, best first}, from the `top_heads.json` the vectors were made with."""
    if TOP_HEADS not in run.files:  # all vectors come from files of the user
        return {}
    ranked = run.record("top_heads")
    named = {GLOBAL.name: ranked["global"]}
    for kind, key in ((OWN.name, "per_qid"), (OF_AIE.name, "aie_per_qid")):
        named |= {source_name(kind, q_id): own for q_id, own in ranked.get(key, {}).items()}
    return named


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print_text(line)
