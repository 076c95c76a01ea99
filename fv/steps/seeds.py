"""Several runs that differ in their seed only -> means over seeds, with intervals over seeds."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from fv.config import Config, StatsConfig
from fv.errors import ArtifactError
from fv.evaluation.summary import records
from fv.evaluation.tables import CONTRASTS_KEY, MEANS_KEY
from fv.files import digest_of, read_json, sha256_of, write_csv, write_json
from fv.runs.metadata import SPECIAL_TOKENS, now, read_meta, refuse_difference
from fv.runs.outputs import hash_outputs, verify_outputs
from fv.runs.paths import RunPaths, locked, run_folder
from fv.statistics.grouped import grouped_means
from fv.statistics.intervals import Kind
from fv.vectors.names import ranking_name

TABLES = {"held_out.csv": MEANS_KEY, "contrasts.csv": CONTRASTS_KEY}
"""The tables of a run that are averaged over runs, and what names their rows."""
NO_TABLES = (
    "What is averaged are the held-out tables, and Step6 writes none with evaluation.held_out=false (evaluation=grid). "
    "Run it with evaluation=full under another tag, or with overwrite=true."
)
log = logging.getLogger(__name__)


def run_seeds(config: Config) -> Path:
    """Gather the Step6 results of `config.runs`, under `config.tag`, over their seeds.

    Returns:
        the folder of the gathered tables.

    Raises:
        ArtifactError: a run is missing or has no held-out results, or runs differ in more than their seed.
    """
    assert config.runs is not None
    root = Path(config.results_dir)
    folders = [RunPaths(root / "relation" / run_id, config.tag).step6 for run_id in config.runs]
    return gather_seeds(folders)


def seeds_of_one_setting(folders: Sequence[Path]) -> list[list[Path]]:
    """Step6 folders with held-out results in groups that differ in their seed only, of two seeds or more.

    A group without such results is left out, and the log says why.
    """
    groups: dict[str, list[tuple[Path, dict[str, Any]]]] = defaultdict(list)
    for folder in folders:
        meta = read_meta(folder / "eval_meta.json")
        groups[digest_of(_without_seed(folder, meta))].append((folder, meta))
    found = []
    for group in groups.values():
        if len(group) < 2:
            continue
        if all(not _missing(meta) for _, meta in group):
            found.append([folder for folder, _ in group])
        else:
            seeds = ", ".join(str(meta["seed"]) for _, meta in group)
            log.warning("Nothing was averaged over the seeds %s: %s", seeds, NO_TABLES)
    return found


def gather_seeds(folders: Sequence[Path]) -> Path:
    """Average the held-out tables of Step6 folders over their seeds.

    Into `<results_dir>/over_seeds/<digest of the runs>/`: `held_out.csv` and `contrasts.csv` with the mean over seeds,
    `n` seeds and the interval over them; `top_heads.csv`, in how many runs a head is among the top k; and
    `over_seeds.json`, which names every input.

    Raises:
        ArtifactError: a folder has no held-out results or files that changed, two runs have one seed, or runs differ
            in more than their seed.
    """
    folders = sorted(set(folders))
    metas = {folder: _meta_of(folder) for folder in folders}
    first = folders[0]
    seeds = {folder: meta["seed"] for folder, meta in metas.items()}
    if len(set(seeds.values())) < len(folders) or len(folders) < 2:
        given = sorted(seeds.values())
        raise ArtifactError(f"Seeds are gathered over two runs or more, each of another seed; given: {given}.")
    settings = _without_seed(first, metas[first])
    for folder in folders[1:]:
        tell = "Only runs of one model, data and settings are averaged over their seeds."
        refuse_difference(settings, _without_seed(folder, metas[folder]), f"{folder}", tell)
    stats = TypeAdapter(StatsConfig).validate_python(metas[first]["config"]["stats"])
    root = run_folder(first).parent.parent / "over_seeds" / digest_of([str(folder) for folder in folders])[:16]
    with locked(root):
        tables = {name: _over_seeds(seeds, name, by, stats) for name, by in TABLES.items()}
        for name, table in tables.items():
            write_csv(root / name, table)
        write_csv(root / "top_heads.csv", _top_heads(metas))
        names = [*tables, "top_heads.csv"]
        write_json(
            root / "over_seeds.json",
            {
                "schema_version": 1,
                "status": "ok",
                "seeds": sorted(seeds.values()),
                "runs": {str(folder): sha256_of(folder / "eval_summary.json") for folder in folders},
                "finished": now(),
                "outputs": hash_outputs(root, names),
                **{Path(name).stem: records(table) for name, table in tables.items()},
            },
        )
    log.info("%d seeds gathered into %s", len(folders), root)
    return root


def _meta_of(folder: Path) -> dict[str, Any]:
    if not (folder / "eval_meta.json").exists():
        raise ArtifactError(f"There is no Step6 in {folder}. Run it for each seed first.")
    meta = read_meta(folder / "eval_meta.json")
    if missing := _missing(meta):
        raise ArtifactError(f"{folder} has no {', '.join(missing)}. {NO_TABLES}")
    verify_outputs(folder, {name: meta["outputs"][name] for name in TABLES}, "Step6")
    return meta


def _missing(meta: dict[str, Any]) -> list[str]:
    """The tables that are due and that a Step6 has not written."""
    return sorted(set(TABLES) - set(meta["outputs"]))


def _without_seed(folder: Path, meta: dict[str, Any]) -> dict[str, Any]:
    """The settings that runs of different seeds have in common."""
    config = meta["config"]
    shared = {f"{group}.{key}": value for group in ("model", "data", "score") for key, value in config[group].items()}
    # What the setting came to: runs may spell it differently and have the same tokens.
    shared[SPECIAL_TOKENS] = read_json(RunPaths(run_folder(folder)).snapshot)["meta"]["add_special_tokens"]
    return {**meta["settings"], **shared, "tag": config["tag"]}


def _over_seeds(seeds: dict[Path, int], name: str, by: list[str], stats: StatsConfig) -> pd.DataFrame:
    """One table over runs: a row for each (what it is, metric) that every run has."""
    # keep_default_na: a condition without a vector has an empty `fv`. As text: relations may be called 10 and 010.
    texts = {column: str for column in by if column != "draw"}
    tables = [
        pd.read_csv(folder / name, keep_default_na=False, dtype=texts, float_precision="round_trip").assign(seed=seed)
        for folder, seed in seeds.items()
    ]
    rows = pd.concat(tables, ignore_index=True).rename(columns={"metric": "of_metric"})
    found = grouped_means(rows, [*by, "of_metric"], {"mean": Kind.mean}, "seed", stats, seed=0)
    found = found[found["n"] == len(seeds)].drop(columns="metric")
    return found.rename(columns={"of_metric": "metric", "n": "n_seeds"}).reset_index(drop=True)


def _top_heads(metas: dict[Path, dict[str, Any]]) -> pd.DataFrame:
    """How many runs have a head among the top k of each ranking."""
    rows = []
    for folder, meta in metas.items():
        paths = RunPaths(run_folder(folder), meta["config"]["tag"])
        ranked = read_json(paths.stepe_to_read / "top_heads.json")
        for of, heads in [(None, ranked["global"]), *ranked["per_qid"].items()]:
            rows += [{"ranking": ranking_name(of), "layer": head["layer"], "head": head["head"]} for head in heads]
    counts = pd.DataFrame(rows).value_counts(["ranking", "layer", "head"]).rename("n_runs").reset_index()
    return counts.sort_values(["ranking", "n_runs", "layer", "head"], ascending=[True, False, True, True])
