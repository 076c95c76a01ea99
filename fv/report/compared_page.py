"""The page of several runs side by side."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from fv.config import Config
from fv.evaluation.summary import records
from fv.figures.contrasts import contrast_forest
from fv.report.about import made_with
from fv.report.compared import Compared, compare, compared_folder, effect_text
from fv.report.limits import LIMITS
from fv.report.page import rendered, write_files
from fv.report.page_tables import Cell, PageTable, page_table
from fv.report.pictures import Picture


def compared_page(config: Config) -> Path:
    """Write the page of `config.runs` into `config.out`, with figures in `report.formats`; returns its path.

    Raises:
        ArtifactError: a run is not there, none has finished its StepD, or a file is missing or was changed.
    """
    compared = compare(config)
    pictures = list(_pictures(compared))
    html = rendered(
        "compared.html",
        pictures,
        title=", ".join(compared.runs),
        tag=config.tag,
        runs=[(run_id, facts.run.config) for run_id, facts in compared.runs.items()],
        mind=compared.to_mind,
        drawn=[],
        n_relations=len(compared.q_ids),
        most_relations=LIMITS.relations,
        tables=_tables(compared),
        settings=_side_by_side(compared.settings, compared).to_numpy().tolist(),
        made_with=[(run_id, made_with(facts.run)) for run_id, facts in compared.runs.items()],
    )
    return write_files(compared_folder(config), html, pictures, config.report.formats)


def _tables(compared: Compared) -> list[PageTable]:
    found = []
    if len(compared.effects):
        found.append(_effects(compared))
        note = "One row a relation and run, its own vector; each number is of the test trials, n is how many."
        found.append(page_table("results", "Results", note, compared.effects))
    if len(compared.contrasts):
        note = "The vector's log p minus that of a control or baseline, trial by trial, with its interval."
        found.append(page_table("contrasts", "Contrasts", note, compared.contrasts))
    differing = {key: values for key, values in compared.settings.items() if len({*values.values()}) > 1}
    note = "The settings that are not the same in all runs, from the runs' own records."
    found.append(page_table("settings", "Settings that differ", note, _side_by_side(differing, compared)))
    return found


def _effects(compared: Compared) -> PageTable:
    """Relations × runs: the effect with its interval; the CSV has the means."""
    found = {(q_id, run_id): compared.effect(q_id, run_id) for q_id in compared.q_ids for run_id in compared.runs}
    means = pd.DataFrame(
        [
            {"relation": q_id, **{run_id: (found[q_id, run_id] or {}).get("Δ log p") for run_id in compared.runs}}
            for q_id in compared.q_ids
        ]
    )
    note = "Δ log p of the right answer that each relation's own vector makes on test trials, with its interval."
    table = page_table("effects", "Effects", note, means)
    rows = [
        [
            row[0],
            *(
                Cell(effect_text(found[row[0].text, run]), cell.exact)
                for run, cell in zip(compared.runs, row[1:], strict=True)
            ),
        ]
        for row in table.rows
    ]
    return table._replace(rows=rows)


def _side_by_side(settings: dict[str, dict[str, str]], compared: Compared) -> pd.DataFrame:
    columns = ["setting", *compared.runs]
    return pd.DataFrame(
        [[key, *(values.get(run_id, "–") for run_id in compared.runs)] for key, values in settings.items()],
        columns=columns,
    )


def _pictures(compared: Compared) -> Iterator[Picture]:
    """Per relation, what its vector adds to the prompt without it and beyond each control, one mark a run."""
    levels = {facts.confidence for facts in compared.runs.values()}
    confidence = levels.pop() if len(levels) == 1 else None
    for number, q_id in enumerate(compared.q_ids[: LIMITS.relations], start=1):
        effects = [row for row in records(compared.effects) if row["relation"] == q_id]
        rows = [
            {"eval_qid": row["run"], "minus": "zero_shot", "mean": row["Δ log p"], "n": row["n"]}
            | {"ci_low": row["low"], "ci_high": row["high"]}
            for row in effects
        ]
        if len(compared.contrasts):
            own = compared.contrasts[compared.contrasts["relation"] == q_id]
            rows += records(own.drop(columns="relation").rename(columns={"run": "eval_qid"}))
        if rows:
            table = pd.DataFrame(rows).assign(condition="fv", metric="logprob")
            yield Picture(
                f"relation_{number:02}",
                f"{q_id}: its own vector in each run, the right answer's log probability on test trials minus that of "
                "the prompt without a vector and of each control or baseline. Right of zero the vector is better.",
                contrast_forest(table, confidence=confidence),
            )
