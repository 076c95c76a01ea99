"""Tables and settings of runs that are averaged over their seeds."""

from collections.abc import Iterable
from pathlib import Path

from fv.config import plain
from fv.config.group import Settings
from fv.errors import ArtifactError
from fv.evaluation.tables import CONTRASTS_KEY, MEANS_KEY
from fv.runs.identity import flat
from fv.runs.outputs import verify_outputs
from fv.runs.refusals import SPECIAL_TOKENS
from fv.runs.run import Run, opened_step6
from fv.runs.step6_files import META

TABLES = {"held_out.csv": MEANS_KEY, "contrasts.csv": CONTRASTS_KEY}
"""{table that is averaged over runs: the columns that identify its rows}."""
NO_TABLES = (
    "Averages over seeds are of held-out tables, and Step6 writes none with evaluation.held_out=false "
    "(evaluation=grid). Run it with evaluation=full under another tag, or with overwrite=true."
)


def run_of_step6(step6: Path) -> Run:
    """Open the run of a Step6 folder.

    Raises:
        ArtifactError: there is no finished Step6 in the folder, or it is stale.
    """
    if not (step6 / META).exists():
        raise ArtifactError(f"There is no Step6 in {step6}. Run it for each seed first.")
    run = opened_step6(step6)
    run.step("Step6")
    return run


def run_with_tables(step6: Path) -> Run:
    """Open the run of a Step6 folder, and verify its held-out tables.

    Raises:
        ArtifactError: there are no held-out tables, or they were changed.
    """
    run = run_of_step6(step6)
    if missing := missing_tables(run):
        raise ArtifactError(f"{step6} has no {', '.join(missing)}. {NO_TABLES}")
    verify_outputs(step6, {name: run.step("Step6").hashes[name] for name in TABLES}, "Step6")
    return run


def missing_tables(run: Run) -> list[str]:
    """The tables for averages over seeds that a Step6 has not written."""
    return sorted(set(TABLES) - set(run.step("Step6").hashes))


def settings_but_seed(run: Run) -> Settings:
    """The settings that must be equal in runs of different seeds."""
    record = run.step("Step6").record
    values = flat({group: plain(getattr(record.config, group)) for group in ("model", "data", "score")})
    # The resolved value: runs may spell the setting differently and have the same tokens.
    values[SPECIAL_TOKENS] = run.trials.snapshot.meta.add_special_tokens
    return {**record.settings, **values, "tag": record.config.tag}


def warnings_of(runs: Iterable[Run]) -> list[str]:
    """The warnings in the summaries of several runs, each once."""
    return [*dict.fromkeys(line for run in runs for line in run.summary.warnings)]
