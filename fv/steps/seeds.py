"""Averages over seeds: runs that differ in their seed only -> means over seeds, with their intervals."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from fv.errors import ArtifactError
from fv.evaluation.seeds import head_counts, means_over_seeds
from fv.evaluation.summary import records
from fv.files import digest_of
from fv.runs.locks import locked
from fv.runs.machine import now
from fv.runs.outputs import Outputs
from fv.runs.paths import RunPaths, run_folder
from fv.runs.records import SeedsRecord, write_record
from fv.runs.refusals import refuse_difference
from fv.runs.run import Run
from fv.runs.seed_files import (
    NO_TABLES,
    TABLES,
    missing_tables,
    run_of_step6,
    run_with_tables,
    settings_but_seed,
    warnings_of,
)
from fv.runs.table_files import read_table

log = logging.getLogger(__name__)


def run_seeds(results: Path, runs: Sequence[str], tag: str | None) -> Path:
    """Average the Step6 results of several runs over their seeds.

    Args:
        results: the folder of runs.
        runs: their run_ids.
        tag: the tag that Step6 ran under, if any.

    Returns:
        the folder of the averaged tables.

    Raises:
        ArtifactError: a run is missing or has no held-out results, or runs differ in more than their seed.
    """
    return gather_seeds([RunPaths(results / "relation" / run_id, tag).step6 for run_id in runs])


def seeds_of_one_setting(folders: Sequence[Path]) -> list[list[Path]]:
    """Group Step6 folders whose settings differ in the seed only; each group has at least two seeds.

    A group without held-out results, or with two runs of one seed, is left out, and the log says why.
    """
    groups: dict[str, list[tuple[Path, Run]]] = defaultdict(list)
    for folder in folders:
        run = run_of_step6(folder)
        groups[digest_of(settings_but_seed(run))].append((folder, run))
    found = []
    for group in groups.values():
        if len(group) < 2:
            continue
        seeds = [run.step("Step6").record.config.seed for _, run in group]
        if len(set(seeds)) < len(group):
            given = ", ".join(map(str, sorted(seeds)))
            log.warning("Nothing was averaged over the seeds %s: several runs have one seed.", given)
        elif all(not missing_tables(run) for _, run in group):
            found.append([folder for folder, _ in group])
        else:
            log.warning("Nothing was averaged over the seeds %s: %s", ", ".join(map(str, seeds)), NO_TABLES)
    return found


def gather_seeds(folders: Sequence[Path]) -> Path:
    """Average the held-out tables of Step6 folders over their seeds.

    The results go into `<results_dir>/over_seeds/<digest of the runs>/`: `held_out.csv` and `contrasts.csv` with the
    mean over seeds, the number `n` of seeds, and the interval over them; `top_heads.csv` with the number of runs in
    which a head is among the top k; and `over_seeds.json` with all inputs and the warnings of the runs.

    Raises:
        ArtifactError: a folder has no held-out results or changed files, two runs have the same seed, or runs differ
            in more than their seed.
    """
    runs = {folder: run_with_tables(folder) for folder in sorted(set(folders))}
    seeds = {folder: run.step("Step6").record.config.seed for folder, run in runs.items()}
    if len(set(seeds.values())) < len(runs) or len(runs) < 2:
        given = sorted(seeds.values())
        raise ArtifactError(f"Seeds are gathered over two runs or more, each of another seed; given: {given}.")
    first, *others = runs
    settings = settings_but_seed(runs[first])
    for folder in others:
        tell = "Only runs of one model, data and settings are averaged over their seeds."
        refuse_difference(settings, settings_but_seed(runs[folder]), f"{folder}", tell)
    stats = runs[first].step("Step6").record.config.stats
    root = run_folder(first).parent.parent / "over_seeds" / digest_of([str(folder) for folder in runs])[:16]
    with locked(root):
        tables = {
            name: means_over_seeds({seed: read_table(folder / name) for folder, seed in seeds.items()}, by, stats)
            for name, by in TABLES.items()
        }
        tables["top_heads.csv"] = head_counts([run.record("top_heads") for run in runs.values()])
        outputs = Outputs(root)
        for name, table in tables.items():
            outputs.csv(name, table)
        record = SeedsRecord(
            status="ok",
            finished=now(),
            outputs=outputs.hashes(),
            warnings=warnings_of(runs.values()),
            seeds=sorted(seeds.values()),
            runs={str(folder): run.step("Step6").hashes["eval_summary.json"] for folder, run in runs.items()},
            held_out=records(tables["held_out.csv"]),
            contrasts=records(tables["contrasts.csv"]),
        )
        write_record(root / "over_seeds.json", record)
    log.info("%d seeds gathered into %s", len(runs), root)
    return root
