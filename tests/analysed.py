"""A tiny finished run for tests of analyses, and what its files are."""

from collections.abc import Sequence
from pathlib import Path

from tiny_runs import Settings

from fv.evaluation import condition_providers
from fv.files import sha256_of

ONE_CONTROL: Settings = {
    "evaluation.conditions.random_vector.draws": 2,
    **{f"evaluation.conditions.{name}.enabled": False for name in condition_providers() if name != "random_vector"},
}
"""Of all controls and baselines the one that costs least."""
ANALYSED: Settings = {
    "seed": 7,
    "data.qids": ["antonym", "verb_past"],
    "data.n_trials_per_q": 3,
    "data.n_demos": 2,
    "data.n_eval_trials_per_q": 4,
    "score.k": 3,
    "injection.fv": "all_qids",
    "injection.layer": [0, 1],
    "eval_scope.mode": "all_qids",
    "stats.n_resamples": 100,
    "analysis.cost.n_texts": 2,
    **ONE_CONTROL,
}
"""A run of two relations that takes a second, with all of Step6."""


def asked(results: Path, names: Sequence[str], *more: str) -> list[str]:
    """What asks for analyses of the run."""
    texts = ["analysis.cost.n_texts=2"] if "cost" in names else []
    # In quotes: to Hydra a bare `null` is nothing, for which the commands stand in.
    return [f"analysis=[{','.join(map(repr, names))}]", "run_id=r", f"results_dir={results}", *texts, *more]


def bytes_of(folder: Path) -> dict[str, str]:
    """{file: SHA-256} of what a folder holds, less what tells of times."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: sha256_of(path)
        for name, path in found.items()
        if not path.name.startswith(".lock") and path.suffix != ".log" and path.name != "analysis_meta.json"
    }


def rest_of(run: Path) -> dict[str, str]:
    """{file: SHA-256} of a run without its analyses and units."""
    return {n: of for n, of in bytes_of(run).items() if not n.startswith(("artifacts/analyses/", "artifacts/units/"))}
