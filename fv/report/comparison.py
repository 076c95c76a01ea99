"""Comparison of several runs on the same relations: the effects of their vectors, and what is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from fv.config import Config
from fv.display import print_table, print_text
from fv.errors import ArtifactError, shorten
from fv.evaluation.summary import records
from fv.evaluation.words import lead_contrasts
from fv.files import digest_of
from fv.report.provenance import settings_of
from fv.report.results import RunResults
from fv.report.words import page_interval
from fv.runs.paths import RunPaths, refuse_links
from fv.runs.run import has_finished_stepd, opened
from fv.tables import TableRow

_EFFECT = "mean_delta_logprob"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Comparison of runs.

    Attributes:
        runs: {run_id: its results}, for the runs that have finished StepD.
        unfinished: {run_id: reason why it has no results}, for the others.
    """

    runs: Mapping[str, RunResults]
    unfinished: Mapping[str, str]

    @property
    def q_ids(self) -> list[str]:
        """Relations of all runs, in the order of their first appearance."""
        return list(dict.fromkeys(q_id for results in self.runs.values() for q_id in results.q_ids))

    @property
    def to_mind(self) -> list[str]:
        """Sentences on obstacles to a comparison: missing results, and relations with different pairs."""
        found = [f"{run_id}: {why}" for run_id, why in self.unfinished.items()]
        found += [f"{run_id}: {each}" for run_id, results in self.runs.items() for each in results.missing]
        if len({results.run.trials.snapshot.meta.relation_csv.sha256 for results in self.runs.values()}) > 1:
            found.append("The runs read different relation files: relations of the same name may have different pairs.")
        if len({results.confidence for results in self.runs.values()}) > 1:
            found.append("The runs' intervals have different levels (stats.confidence).")
        for run_id, results in self.runs.items():
            if others := [q_id for q_id in self.q_ids if q_id not in results.q_ids]:
                found.append(f"{run_id} has no {shorten(others, 12)}.")
        return found

    @cached_property
    def effects(self) -> pd.DataFrame:
        """Effects of each relation's own vector on its test trials, one row per relation and run.

        Effects are in log p and accuracy (exact match if first tokens collide).
        """
        rows = [
            {
                "relation": row["eval_qid"],
                "run": run_id,
                "k": row["k"],
                "layer": row["layer"],
                "α": row["alpha"],
                **dict(zip(("accuracy without", "accuracy with vector"), results.closing.answered(row), strict=True)),
                "Δ log p": row[_EFFECT],
                "low": row[f"{_EFFECT}_ci_low"],
                "high": row[f"{_EFFECT}_ci_high"],
                "n": row["n_test"],
            }
            for run_id, results in self.runs.items()
            for row in records(results.own)
        ]
        return self._by_relation(rows)

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """Vector's log p minus each control's or baseline's, one row per relation, control and run."""
        rows = [
            {"relation": q_id, "run": run_id, "minus": minus} | found._asdict()
            for run_id, results in self.runs.items()
            for q_id in results.q_ids
            for minus in lead_contrasts()
            if (found := results.difference(q_id, minus))
        ]
        return self._by_relation(rows)

    @cached_property
    def settings(self) -> dict[str, dict[str, str]]:
        """{key of a setting: {run_id: its value, as text}}."""
        found: dict[str, dict[str, str]] = {}
        for run_id, results in self.runs.items():
            for key, value in settings_of(results.run):
                found.setdefault(key, {})[run_id] = value
        return found

    def effect(self, q_id: str, run_id: str) -> TableRow | None:
        """Row of `effects` of a relation and run; None if there is none."""
        return self._effects.get((q_id, run_id))

    @cached_property
    def _effects(self) -> dict[tuple[str, str], TableRow]:
        return {(row["relation"], row["run"]): row for row in records(self.effects)}

    def _by_relation(self, rows: list[TableRow]) -> pd.DataFrame:
        places = {q_id: place for place, q_id in enumerate(self.q_ids)}
        ordered = sorted(rows, key=lambda row: places[row["relation"]])
        return pd.DataFrame(ordered)


def compare(results: Path, run_ids: Sequence[str], tag: str | None) -> Comparison:
    """Open several runs, each under a tag.

    Args:
        results: the folder of results.
        run_ids: the runs.
        tag: the tag, if any.

    Raises:
        ArtifactError: a run does not exist or is damaged, or no run has finished StepD.
    """
    runs, unfinished = {}, {}
    for run_id in dict.fromkeys(run_ids):
        root = results / "relation" / run_id
        if not root.exists():
            raise ArtifactError(f"runs={run_ids}: there is no run {run_id!r} in {root.parent}.")
        paths = RunPaths(root, tag)
        refuse_links(root)
        if has_finished_stepd(paths):
            runs[run_id] = RunResults(opened(paths))
        else:
            unfinished[run_id] = "StepD has not finished, so there are no results."
    if not runs:
        raise ArtifactError(f"runs={run_ids}: none of these runs has finished StepD.")
    return Comparison(runs, unfinished)


def comparison_folder(results: Path, run_ids: Sequence[str], tag: str | None) -> Path:
    """Folder for the page of several runs, which is theirs alone."""
    return results / "compared" / f"{run_ids[0]}-{digest_of([list(run_ids), tag])[:8]}"


def print_comparison(config: Config) -> None:
    """Print each relation's effect in each run of `config.runs`.

    Raises:
        ArtifactError: a run does not exist or is damaged, or no run has finished StepD.
    """
    comparison = compare(Path(config.results_dir), config.runs or (), config.tag)
    rows = [
        [q_id, *(effect_text(comparison.effect(q_id, run_id)) for run_id in comparison.runs)]
        for q_id in comparison.q_ids
    ]
    print_table("Effect of each relation's own vector, Δ log p on test trials", ("relation", *comparison.runs), rows)
    for line in comparison.to_mind:
        print_text(f"Mind: {line}")


def effect_text(row: TableRow | None) -> str:
    """Text of an effect with its interval, or a dash."""
    return page_interval(row["Δ log p"], row["low"], row["high"]) if row else "–"
