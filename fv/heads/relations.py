"""All relations: measured one after the other, and the tables of what was found."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd

from fv.config import StatsConfig
from fv.data.snapshot import Snapshot
from fv.heads.indirect_effect import TrialEffects, aie_stats, aie_table, cie_stats, cie_table
from fv.heads.relation_run import RelationRuns, Unit
from fv.heads.stability import with_other_halves
from fv.progress import progress_bar


def measure_relations(name: str, runs: RelationRuns) -> Iterator[tuple[str, Unit]]:
    """Run the relations of a snapshot, under a progress bar of this name: each one's q_id and what was measured."""
    snapshot = runs.snapshot
    n_patched = sum(len(snapshot.of(q_id, "fit", runs.score.n_trials)) for q_id in snapshot.qids)
    with progress_bar(name, n_patched) as (advance, rename):
        shown = replace(runs, advance=advance)
        for q_id in snapshot.qids:
            rename(q_id)
            yield q_id, shown.relation(q_id)


class EffectTables(NamedTuple):
    """Effects of every relation and over all (`fv.heads.indirect_effect`), each under the name of its CSV file.

    Attributes:
        cie_scores: `cie_table` of all relations.
        aie_scores: `aie_table`.
        cie_stats: `cie_stats`, with `other_half_mean` (`fv.heads.stability`).
        aie_stats: `aie_stats`.
    """

    cie_scores: pd.DataFrame
    aie_scores: pd.DataFrame
    cie_stats: pd.DataFrame
    aie_stats: pd.DataFrame


def effect_tables(effects: dict[str, TrialEffects], stats: StatsConfig, seed: int) -> EffectTables:
    """The tables of {q_id: effects trial by trial}."""
    cie = pd.concat([cie_table(q_id, own) for q_id, own in effects.items()], ignore_index=True)
    of_each = with_other_halves(cie_stats(effects, stats, seed), effects, seed)
    return EffectTables(cie, aie_table(cie), of_each, aie_stats(cie, stats, seed))


def prompt_rows(snapshot: Snapshot, units: Mapping[str, Unit]) -> Iterator[dict[str, Any]]:
    """A row a fit trial, as in `trial_metrics.jsonl`: how its clean, corrupted and zero-shot prompts are answered."""
    for q_id, unit in units.items():
        for i, trial in enumerate(snapshot.of(q_id, "fit")):
            row: dict[str, Any] = {"trial_id": trial.trial_id, "q_id": q_id, "split": trial.split}
            for kind, scores in unit.metrics.items():
                row[f"{kind}_logprob"] = float(scores.logprob[i])
                row[f"{kind}_p"] = float(scores.p[i])
                row[f"{kind}_rank"] = int(scores.rank[i])
                row[f"{kind}_correct"] = bool(scores.correct[i])
            yield row
