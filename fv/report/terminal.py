"""What a finished run found, printed for people."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fv.config import Config
from fv.display import print_table, print_text
from fv.errors import ArtifactError, shorten
from fv.files import read_json
from fv.report.closing import print_answers, print_baselines, print_effects
from fv.report.headline import null_ps
from fv.report.null import null_sentence, print_null
from fv.report.rankings import print_stepd, print_stepe
from fv.report.remarks import remarks, top_heads
from fv.report.screened import screen_report_of, screen_sentences
from fv.report.seeds import OVER_SEEDS, print_over_seeds
from fv.report.summary import Row, Summary
from fv.runs.metadata import read_meta
from fv.runs.paths import FV_META, RunPaths, run_folder
from fv.runs.run import Run, open_run
from fv.runs.step6_files import META
from fv.vectors.names import source_name


def print_report(step6: Path) -> None:
    """Print, per vector and relation, what its chosen injection changed on the test trials.

    Args:
        step6: the folder of Step6's artifacts.
    """
    meta, values = read_json(step6 / META), read_json(step6 / "eval_summary.json")
    summary = Summary(values)
    if values["chosen"] and "mean_delta_logprob" in values["chosen"][0]:
        title = f"Zero-shot answers of {meta['config']['model']['name']} with function vectors injected"
        print_effects(title, summary, _null(step6, meta))
        how, *winners = remarks(summary)
        print_text(how)
        if summary.headline:
            print_answers(summary)
        if summary.has_held_out:
            print_baselines(summary)
        if named := top_heads(summary, _ranked(step6, meta)):
            print_text(named)
        _print_lines(winners)
        _print_lines(_null_lines(step6, meta))
    else:
        print_text("No cell was chosen (evaluation.dev_fraction=0); every cell is in eval_summary.json.")
    if said := screen_sentences(screen_report_of(RunPaths(run_folder(step6)))):
        print_text(said)
    _print_lines(f"Mind: {line}" for line in values.get("warnings", []))
    print_text(f"Run: {run_folder(step6)}", in_one_piece=True)


def print_gathered(folder: Path) -> None:
    """Print what was gathered into `folder`: the cells of a sweep, or runs over their seeds."""
    if (folder / OVER_SEEDS).exists():
        print_over_seeds(folder)
    else:
        print_report(folder)


def print_analyses(analyses: Path) -> None:
    """Print which analyses a run has, and their tables; `analyses` is the folder that they are in."""
    run = open_run(run_folder(analyses))
    rows = [(name, ", ".join(each.table_names) or "none") for name, each in run.analyses.items()]
    print_table("Analyses", ("name", "tables"), rows, n_text=2)
    print_null(run)
    print_text(f"In: {analyses}", in_one_piece=True)


def print_heads(run: Path) -> None:
    """Print what StepD found in the run's folder `run`."""
    paths = RunPaths(run)
    print_stepd(paths, read_meta(paths.stepd_meta))
    print_text(f"Run: {run}", in_one_piece=True)


def print_vectors(stepe: Path) -> None:
    """Print what StepE found; `stepe` is the folder of its artifacts."""
    run = run_folder(stepe / FV_META)
    print_stepe(RunPaths(run, None if stepe.name == "artifacts" else stepe.name))
    print_text(f"Run: {run}", in_one_piece=True)


def report(config: Config) -> Path:
    """Print the tables of every step that has finished in `config`'s run, under its tag.

    Returns:
        the run's folder.

    Raises:
        ArtifactError: there is no such run, or none of its steps has finished.
    """
    paths = RunPaths.of(config)
    found = [
        (paths.stepd_meta, lambda: print_stepd(paths, read_meta(paths.stepd_meta))),
        (paths.stepe / FV_META, lambda: print_stepe(paths)),
        (paths.step6 / META, lambda: print_report(paths.step6)),
    ]
    finished = [show for meta, show in found if meta.exists() and read_meta(meta)["status"] == "ok"]
    if not finished:
        there = sorted(path.parent.name for path in paths.root.parent.glob("*/artifacts"))
        named = f"There are {shorten(there, 40)}." if there else f"There are none in {paths.root.parent}."
        raise ArtifactError(f"No step has finished in {paths.root}. Name a run (and its tag): run_id=<run_id>. {named}")
    for show in finished:
        show()
    return paths.root


def _ranked(step6: Path, meta: dict[str, Any]) -> dict[str, list[Row]]:
    """{source of a vector: its heads, best first}, from the `top_heads.json` the vectors were made with."""
    paths = RunPaths(run_folder(step6), meta["config"]["tag"])
    ranked = read_json(paths.stepe_to_read / "top_heads.json")
    named = {source_name("global", None): ranked["global"]}
    for kind, key in (("qid", "per_qid"), ("aie_qid", "aie_per_qid")):
        named |= {source_name(kind, q_id): own for q_id, own in ranked.get(key, {}).items()}
    return named


def _null(step6: Path, meta: dict[str, Any]) -> dict[tuple[str, str], tuple[float, int]]:
    """p of each vector under the null, where it was run on these results."""
    run = _analysed(step6, meta)
    return {} if run is None else null_ps(run)


def _null_lines(step6: Path, meta: dict[str, Any]) -> list[str]:
    run = _analysed(step6, meta)
    return [] if run is None or not (said := null_sentence(run)) else [said]


def _analysed(step6: Path, meta: dict[str, Any]) -> Run | None:
    """The run whose analyses are of these results; None for the cells of a sweep over other settings."""
    run = open_run(run_folder(step6), meta["config"]["tag"])
    return run if run.paths.step6 == step6 else None


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print_text(line)
