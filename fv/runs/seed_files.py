"""What is read of runs that are gathered over their seeds."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fv.errors import ArtifactError
from fv.evaluation.tables import CONTRASTS_KEY, MEANS_KEY
from fv.files import read_json
from fv.runs.metadata import SPECIAL_TOKENS, read_meta
from fv.runs.outputs import verify_outputs
from fv.runs.paths import RunPaths, run_folder
from fv.runs.step6_files import META

TABLES = {"held_out.csv": MEANS_KEY, "contrasts.csv": CONTRASTS_KEY}
"""The tables of a run that are averaged over runs, and what names their rows."""
NO_TABLES = (
    "What is averaged are the held-out tables, and Step6 writes none with evaluation.held_out=false (evaluation=grid). "
    "Run it with evaluation=full under another tag, or with overwrite=true."
)


def read_held_out_meta(step6: Path) -> dict[str, Any]:
    """The metadata of a Step6 that has held-out tables, unchanged.

    Raises:
        ArtifactError: there is no such Step6, or its tables are missing or were changed.
    """
    if not (step6 / META).exists():
        raise ArtifactError(f"There is no Step6 in {step6}. Run it for each seed first.")
    meta = read_meta(step6 / META)
    if missing := missing_tables(meta):
        raise ArtifactError(f"{step6} has no {', '.join(missing)}. {NO_TABLES}")
    verify_outputs(step6, {name: meta["outputs"][name] for name in TABLES}, "Step6")
    return meta


def missing_tables(meta: dict[str, Any]) -> list[str]:
    """The tables that are due and that a Step6 has not written."""
    return sorted(set(TABLES) - set(meta["outputs"]))


def settings_but_seed(step6: Path, meta: dict[str, Any]) -> dict[str, Any]:
    """The settings that runs of different seeds have in common."""
    config = meta["config"]
    shared = {f"{group}.{key}": value for group in ("model", "data", "score") for key, value in config[group].items()}
    # What the setting came to: runs may spell it differently and have the same tokens.
    shared[SPECIAL_TOKENS] = read_json(RunPaths(run_folder(step6)).snapshot)["meta"]["add_special_tokens"]
    return {**meta["settings"], **shared, "tag": config["tag"]}


def warnings_of(step6s: Iterable[Path]) -> list[str]:
    """What the summaries of several Step6 warn of, each line once."""
    lines = [line for step6 in step6s for line in read_json(step6 / "eval_summary.json").get("warnings", [])]
    return [*dict.fromkeys(lines)]


def read_top_heads(step6: Path, meta: dict[str, Any]) -> dict[str, Any]:
    """The top heads of the StepE whose vectors a Step6 injected."""
    paths = RunPaths(run_folder(step6), meta["config"]["tag"])
    return read_json(paths.stepe_to_read / "top_heads.json")
