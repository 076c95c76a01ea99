"""Page that compares several runs."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from fv.config import Config
from fv.evaluation.summary import records
from fv.evaluation.words import labels
from fv.figures.contrasts import contrast_forest
from fv.report.comparison import Comparison, compare, comparison_folder, effect_text
from fv.report.limits import LIMITS
from fv.report.page import rendered, write_files
from fv.report.page_tables import PageTable, TableCell, page_table
from fv.report.pictures import Picture
from fv.report.provenance import made_with


def comparison_page(config: Config) -> Path:
    """Write the page of `config.runs` into `config.out`, with figures in `report.formats`; returns its path.

    Raises:
        ArtifactError: a run does not exist, no run has finished StepD, or a file is missing or was changed.
    """
    results, run_ids, tag = Path(config.results_dir), config.runs or (), config.tag
    comparison = compare(results, run_ids, tag)
    folder = Path(config.out) if config.out else comparison_folder(results, run_ids, tag)
    pictures = list(_pictures(comparison))
    html = rendered(
        "comparison.html",
        pictures,
        title=", ".join(comparison.runs),
        tag=tag,
        runs=[(run_id, own.run.config) for run_id, own in comparison.runs.items()],
        mind=comparison.to_mind,
        drawn=[],
        n_relations=len(comparison.q_ids),
        most_relations=LIMITS.relations,
        tables=_tables(comparison),
        settings=_side_by_side(comparison.settings, comparison).to_numpy().tolist(),
        made_with=[(run_id, made_with(own.run)) for run_id, own in comparison.runs.items()],
    )
    return write_files(folder, html, pictures, config.report.formats)


def _tables(comparison: Comparison) -> list[PageTable]:
    found = []
    if len(comparison.effects):
        found.append(_effects(comparison))
        note = "One row per relation and run, for the relation's own vector. All numbers are from the n test trials."
        found.append(page_table("results", "Results", note, comparison.effects))
    if len(comparison.contrasts):
        note = "The vector's log p minus that of a control or baseline, trial by trial, with its interval."
        found.append(page_table("contrasts", "Contrasts", note, comparison.contrasts))
    differing = {key: values for key, values in comparison.settings.items() if len({*values.values()}) > 1}
    note = "All settings that differ between the runs, from the runs' own records."
    found.append(page_table("settings", "Settings that differ", note, _side_by_side(differing, comparison)))
    return found


def _effects(comparison: Comparison) -> PageTable:
    """Table of relations × runs: the effect with its interval; the CSV has the means."""
    found = {(q_id, run_id): comparison.effect(q_id, run_id) for q_id in comparison.q_ids for run_id in comparison.runs}
    means = pd.DataFrame(
        [
            {"relation": q_id, **{run_id: (found[q_id, run_id] or {}).get("Δ log p") for run_id in comparison.runs}}
            for q_id in comparison.q_ids
        ]
    )
    note = "Δ log p of the right answer under each relation's own vector on test trials, with its interval."
    table = page_table("effects", "Effects", note, means)
    rows = [
        [
            row[0],
            *(
                TableCell(effect_text(found[row[0].text, run]), cell.exact)
                for run, cell in zip(comparison.runs, row[1:], strict=True)
            ),
        ]
        for row in table.rows
    ]
    return table._replace(rows=rows)


def _side_by_side(settings: dict[str, dict[str, str]], comparison: Comparison) -> pd.DataFrame:
    columns = ["setting", *comparison.runs]
    return pd.DataFrame(
        [[key, *(values.get(run_id, "–") for run_id in comparison.runs)] for key, values in settings.items()],
        columns=columns,
    )


def _pictures(comparison: Comparison) -> Iterator[Picture]:
    """Figures, one per relation: its vector relative to the zero-shot prompt and to each control, one mark per run."""
    levels = {results.confidence for results in comparison.runs.values()}
    confidence = levels.pop() if len(levels) == 1 else None
    for number, q_id in enumerate(comparison.q_ids[: LIMITS.relations], start=1):
        effects = [row for row in records(comparison.effects) if row["relation"] == q_id]
        rows = [
            {"eval_qid": row["run"], "minus": "zero_shot", "mean": row["Δ log p"], "n": row["n"]}
            | {"ci_low": row["low"], "ci_high": row["high"]}
            for row in effects
        ]
        if len(comparison.contrasts):
            own = comparison.contrasts[comparison.contrasts["relation"] == q_id]
            rows += records(own.drop(columns="relation").rename(columns={"run": "eval_qid"}))
        if rows:
            table = pd.DataFrame(rows).assign(condition="fv", metric="logprob")
            yield Picture(
                f"relation_{number:02}",
                f"{q_id}: its own vector in each run. The right answer's log probability on test trials, minus that of "
                "the prompt without a vector, and of each control or baseline. Right of zero the vector is better.",
                contrast_forest(table, names=labels(), confidence=confidence),
            )
