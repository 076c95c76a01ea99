"""Pictures of a run's page: figures with captions."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from fv.evaluation.tables import NO_VECTOR
from fv.evaluation.words import costed_conditions, labels, lead_contrasts
from fv.figures.contrasts import contrast_forest
from fv.figures.convergence import ranking_convergence
from fv.figures.cosines import cosine_heatmap
from fv.figures.cost import effect_against_cost
from fv.figures.data_figure import COLUMN, DataFigure
from fv.figures.effect_by_layer import effect_by_layer
from fv.figures.head_count import effect_by_head_count
from fv.figures.head_overlap import overlap_heatmap
from fv.figures.heads import head_heatmap
from fv.figures.inclusion import inclusion_probabilities
from fv.figures.transfer import transfer_heatmap
from fv.figures.trials import before_and_after
from fv.report.limits import LIMITS, Limits
from fv.report.results import RunResults
from fv.vectors.kinds import GLOBAL

_WIDE = 6.8
"""Width of a figure with too many names for one column, in inches."""
_IN_A_COLUMN = 12
"""Largest number of names in a figure of one column."""


class Picture(NamedTuple):
    """Figure of the page with its caption.

    Attributes:
        name: name of its files, without the suffix.
        caption: description in sentences.
        figure: the figure.
    """

    name: str
    caption: str
    figure: DataFigure

    @property
    def is_wide(self) -> bool:
        """Tell whether the figure is wider than one column."""
        return bool(self.figure.get_size_inches()[0] > COLUMN)


def pictures_of(results: RunResults, limits: Limits = LIMITS) -> list[Picture]:
    """Draw every figure that the run has tables for; figures of single relations up to `limits.relations`."""
    shown = results.q_ids[: limits.relations]
    in_matrix = dict(list(results.relation_of_vector.items())[: limits.names])
    of_heads = (_heads(results, shown), _stability(results), _shared_heads(results, limits.names))
    of_vectors = (
        _head_counts(results),
        _contrasts(results, shown),
        _transfer(results, in_matrix),
        _cosines(results, in_matrix),
        _cost(results, shown),
    )
    return list(itertools.chain(*of_heads, *of_vectors, _of_relations(results, shown)))


def _heads(results: RunResults, shown: list[str]) -> Iterator[Picture]:
    scores = pd.concat([_chosen_of(results, "aie_stats", ["AIE"]), _chosen_of(results, "cie_stats", shown)])
    yield Picture(
        "heads",
        "Indirect effect of each attention head: the rise of the right answer's log probability in a prompt with wrong "
        "examples, if this head's output is replaced by its mean over prompts with right examples. One panel per "
        "relation; the first panel is their average (AIE). Framed: the heads of the vector. Intervals are for each "
        f"head alone.{' Hatched: heads whose effect was only estimated.' if results.screen else ''}",
        head_heatmap(
            scores, shape=results.shape, confidence=results.confidence, width=_WIDE if len(shown) > 3 else COLUMN
        ),
    )


def _stability(results: RunResults) -> Iterator[Picture]:
    if results.stability is None or results.heads.empty:
        return
    rankings, heads = results.stability["rankings"], results.heads
    yield Picture(
        "inclusion",
        f"How often each head is among the top {results.k} of the average over relations, if the trials are resampled "
        "with replacement.",
        inclusion_probabilities(
            heads[heads["ranking"] == GLOBAL.name].assign(ranking="the AIE"),
            results.k,
            rankings[GLOBAL.name]["n_trials"],
        ),
    )
    names = {GLOBAL.name: "AIE", **results.q_id_of_ranking}
    curves = [{"ranking": names[name], **point} for name, each in rankings.items() for point in each["convergence"]]
    if any(point["overlap_apart"] is not None for point in curves):
        yield Picture(
            "convergence",
            f"Share of the top {results.k} heads that two rankings have in common, each from n trials of its own.",
            ranking_convergence(pd.DataFrame(curves), results.k),
        )


def _shared_heads(results: RunResults, most: int) -> Iterator[Picture]:
    if results.heads.empty or len(results.q_ids) < 2:
        return
    rankings = list(results.q_id_of_ranking)[:most]
    own = results.heads[results.heads["ranking"].isin(rankings) & results.heads["chosen"]]
    yield Picture(
        "shared_heads",
        "Share of the row's top heads that are also among the column's.",
        overlap_heatmap(own.assign(q_id=own["ranking"].map(results.q_id_of_ranking)), width=_width(len(rankings))),
    )


def _chosen_of(results: RunResults, name: str, shown: list[str]) -> pd.DataFrame:
    """Table of effects of these relations, with the column `chosen`; the average over relations is named AIE."""
    table = results.table(name)
    table = table[table["metric"] == results.run.config.score.key.value].assign(metric="mean_delta_logprob")
    table = table.assign(q_id="AIE") if "q_id" not in table else table[table["q_id"].isin(shown)]
    if results.heads.empty:
        return table
    top = results.heads[results.heads["chosen"]]
    names = top["ranking"].map({GLOBAL.name: "AIE", **results.q_id_of_ranking})
    there = set(zip(names, top["layer"], top["head"], strict=True))
    keys = table[["q_id", "layer", "head"]].itertuples(index=False, name=None)
    return table.assign(chosen=[key in there for key in keys])


def _head_counts(results: RunResults) -> Iterator[Picture]:
    if results.own.empty or results.of_each_k["k"].nunique() < 2:
        return
    yield Picture(
        "head_count",
        "Effect on test trials of vectors with different numbers of heads, each at its own chosen cell. Ringed: the "
        "number that the dev trials choose.",
        effect_by_head_count(
            results.of_each_k.assign(chosen=results.of_each_k["best_k"]), confidence=results.confidence
        ),
    )


def _contrasts(results: RunResults, shown: list[str]) -> Iterator[Picture]:
    if results.contrasts.empty:
        return
    of_vector = (results.contrasts["condition"] == "fv") & results.contrasts["minus"].isin(lead_contrasts())
    rows = results.contrasts[of_vector & results.contrasts["eval_qid"].isin(shown)]
    if len(rows):
        yield Picture(
            "contrasts",
            "The right answer's log probability under the vector, minus that under each control or baseline, on the "
            "same test trials. Right of zero the vector is better.",
            contrast_forest(rows, names=labels(), confidence=results.confidence),
        )


def _transfer(results: RunResults, relation: dict[str, str]) -> Iterator[Picture]:
    """Figure of the relations' own vectors, given as {name of the vector: its relation}."""
    transfer = results.table("transfer")
    if transfer.empty or len(relation) < 2:
        return
    rows = transfer[transfer["fv"].isin(relation) & transfer["eval_qid"].isin(relation.values())]
    rows = rows.assign(fv=rows["fv"].map(relation))
    words = {"effect": "relative to the prompt without a vector", "effect_minus_control": "beyond random vectors"}
    for value in (name for name in words if rows[name].notna().any()):
        yield Picture(
            value.replace("effect", "transfer"),
            f"Effect of each relation's vector on each relation's test trials, {words[value]}, at the cell chosen for "
            "the pair.",
            transfer_heatmap(rows, value, confidence=results.confidence, width=_width(len(relation))),
        )


def _cosines(results: RunResults, relation: dict[str, str]) -> Iterator[Picture]:
    cosines = results.table("fv_cosines")
    if cosines.empty or len(relation) < 2:
        return
    # Columns are taken by position, since a vector may also be called fv.
    places = [place for place, name in enumerate(cosines.iloc[:, 0]) if name in relation]
    names = [relation[str(cosines.iloc[place, 0])] for place in places]
    square = cosines.iloc[places, [0, *(place + 1 for place in places)]].set_axis(["fv", *names], axis=1)
    square.isetitem(0, names)
    yield Picture("cosines", "Cosine between relations' vectors.", cosine_heatmap(square, width=_width(len(names))))


def _cost(results: RunResults, shown: list[str]) -> Iterator[Picture]:
    tables = [results.of_own(table, unpaired=True) for table in (results.held_out, results.table("injection_cost"))]
    if tables[1].empty:
        return
    costed = ["fv", *costed_conditions()]
    effects, cost = (table[table["condition"].isin(costed) & table["eval_qid"].isin(shown)] for table in tables)
    yield Picture(
        "cost",
        "Effect on the relation's test trials, against the change that the same injection causes in next-token "
        "probabilities on unrelated texts. Up and left is better. One mark per relation and draw.",
        effect_against_cost(effects, cost, names=labels(), confidence=results.confidence),
    )


def _of_relations(results: RunResults, shown: list[str]) -> Iterator[Picture]:
    """Figures of single relations."""
    if results.own.empty or results.summary is None:
        return
    cells = pd.DataFrame(results.summary.rows)
    trials = results.table("held_out_trials")
    for row in results.own[results.own["eval_qid"].isin(shown)].itertuples():
        q_id, fv = str(row.eval_qid), str(row.fv)
        of_pair = cells[(cells["fv"] == fv) & (cells["eval_qid"] == q_id)]
        chosen = (of_pair["layer"] == row.layer) & (of_pair["alpha"] == row.alpha)
        levels = {
            name: [np.nan if end is None else end for end in (found.mean, found.ci_low, found.ci_high)]
            for name, own in (("few_shot", NO_VECTOR), ("random_vector", fv))
            if (found := results.measured(q_id, name, "delta_logprob", own))
        }
        number = shown.index(q_id) + 1
        yield Picture(
            f"layers_{number:02}",
            f"{q_id}: effect of its vector by layer of injection, over dev and test trials together. The ringed cell "
            "was chosen by dev trials; the grey lines are from test trials alone.",
            effect_by_layer(of_pair.assign(chosen=chosen, fv=q_id), baselines=levels, confidence=results.confidence),
        )
        if trials.empty:
            continue
        own = trials[(trials["eval_qid"] == q_id) & trials["fv"].isin([fv, NO_VECTOR]) & (trials["draw"] == 0)]
        yield Picture(
            f"trials_{number:02}",
            f"{q_id}: log probability of the right answer's first token in each test trial, without the vector, with "
            f"it, and with {results.run.config.data.n_demos} right examples instead.",
            before_and_after(own),
        )


def _width(n_names: int) -> float:
    return _WIDE if n_names > _IN_A_COLUMN else COLUMN
