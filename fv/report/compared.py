"""Several runs on the same relations, side by side: each one's own vectors, what they did, and what is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from fv.config import Config
from fv.display import print_table, print_text
from fv.errors import ArtifactError, shorten
from fv.evaluation.summary import records
from fv.files import digest_of
from fv.report.about import settings_of
from fv.report.facts import LEAD_CONTRASTS, Facts
from fv.report.words import interval
from fv.runs.paths import RunPaths, refuse_links
from fv.runs.run import has_finished_stepd, opened

_EFFECT, _CONTRAST = "mean_delta_logprob", ("mean", "ci_low", "ci_high", "n")


@dataclass(frozen=True, eq=False)
class Compared:
    """Runs side by side.

    Attributes:
        runs: {run_id: what its tables say}, of those whose StepD has finished.
        unfinished: {run_id: why there is nothing of it to show}.
    """

    runs: Mapping[str, Facts]
    unfinished: Mapping[str, str]

    @property
    def q_ids(self) -> list[str]:
        """The relations of all runs, in the order in which they come."""
        return list(dict.fromkeys(q_id for facts in self.runs.values() for q_id in facts.q_ids))

    @property
    def to_mind(self) -> list[str]:
        """What keeps the runs from being compared: what is missing, and relations of other pairs."""
        found = [f"{run_id}: {why}" for run_id, why in self.unfinished.items()]
        found += [f"{run_id}: {each}" for run_id, facts in self.runs.items() for each in facts.missing]
        if len({facts.run.trials.snapshot.meta.relation_csv.sha256 for facts in self.runs.values()}) > 1:
            found.append("The runs read different relation files: relations of one name may have other pairs.")
        if len({facts.confidence for facts in self.runs.values()}) > 1:
            found.append("The runs' intervals are of different levels (stats.confidence).")
        for run_id, facts in self.runs.items():
            if others := [q_id for q_id in self.q_ids if q_id not in facts.q_ids]:
                found.append(f"{run_id} has no {shorten(others, 12)}.")
        return found

    @cached_property
    def effects(self) -> pd.DataFrame:
        """One row a relation and run: its own vector on the relation's test trials, in log p and accuracy (exact match,
        where first tokens say nothing)."""
        rows = [
            {
                "relation": row["eval_qid"],
                "run": run_id,
                "k": row["k"],
                "layer": row["layer"],
                "α": row["alpha"],
                **dict(zip(("accuracy without", "accuracy with vector"), facts.closing.answered(row), strict=True)),
                "Δ log p": row[_EFFECT],
                "low": row[f"{_EFFECT}_ci_low"],
                "high": row[f"{_EFFECT}_ci_high"],
                "n": row["n_test"],
            }
            for run_id, facts in self.runs.items()
            for row in records(facts.own)
        ]
        return self._by_relation(rows)

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """One row a relation, control or baseline, and run: the vector's log p minus the other's, trial by trial."""
        rows = [
            {"relation": q_id, "run": run_id, "minus": minus} | {name: found[name] for name in _CONTRAST}
            for run_id, facts in self.runs.items()
            for q_id in facts.q_ids
            for minus in LEAD_CONTRASTS
            if (found := facts.difference(q_id, minus))
        ]
        return self._by_relation(rows)

    @cached_property
    def settings(self) -> dict[str, dict[str, str]]:
        """{key of a setting: {run_id: its value, as text}}."""
        found: dict[str, dict[str, str]] = {}
        for run_id, facts in self.runs.items():
            for key, value in settings_of(facts.run):
                found.setdefault(key, {})[run_id] = value
        return found

    def effect(self, q_id: str, run_id: str) -> dict[str, Any] | None:
        """The row of `effects` of a relation and run; None where there is none."""
        return self._effects.get((q_id, run_id))

    @cached_property
    def _effects(self) -> dict[tuple[str, str], dict[str, Any]]:
        return {(row["relation"], row["run"]): row for row in records(self.effects)}

    def _by_relation(self, rows: list[dict[str, Any]]) -> pd.DataFrame:
        places = {q_id: place for place, q_id in enumerate(self.q_ids)}
        ordered = sorted(rows, key=lambda row: places[row["relation"]])
        return pd.DataFrame(ordered)


def compare(results: Path, run_ids: Sequence[str], tag: str | None) -> Compared:
    """Several runs of a folder of results, each under a tag.

    Args:
        results: the folder.
        run_ids: the runs.
        tag: the tag, if any.

    Raises:
        ArtifactError: one of them is not there or damaged, or none has finished its StepD.
    """
    runs, unfinished = {}, {}
    for run_id in dict.fromkeys(run_ids):
        root = results / "relation" / run_id
        if not root.exists():
            raise ArtifactError(f"runs={run_ids}: there is no run {run_id!r} in {root.parent}.")
        paths = RunPaths(root, tag)
        refuse_links(root)
        if has_finished_stepd(paths):
            runs[run_id] = Facts(opened(paths))
        else:
            unfinished[run_id] = "StepD has not finished; there is nothing to show."
    if not runs:
        raise ArtifactError(f"runs={run_ids}: none of them has finished its StepD.")
    return Compared(runs, unfinished)


def compared_folder(results: Path, run_ids: Sequence[str], tag: str | None) -> Path:
    """The folder of the page of several runs, which is theirs alone."""
    return results / "compared" / f"{run_ids[0]}-{digest_of([list(run_ids), tag])[:8]}"


def print_compared(config: Config) -> None:
    """Print each relation's effect in each run of `config.runs`.

    Raises:
        ArtifactError: as `compare`.
    """
    compared = compare(Path(config.results_dir), config.runs or (), config.tag)
    rows = [
        [q_id, *(effect_text(compared.effect(q_id, run_id)) for run_id in compared.runs)] for q_id in compared.q_ids
    ]
    print_table("Effect of each relation's own vector, Δ log p on test trials", ("relation", *compared.runs), rows)
    for line in compared.to_mind:
        print_text(f"Mind: {line}")


def effect_text(row: Mapping[str, Any] | None) -> str:
    """An effect with its interval, or a dash."""
    return interval(row["Δ log p"], row["low"], row["high"]) if row else "–"
