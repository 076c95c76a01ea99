"""The figures of a run's page, each with a caption that says what is seen."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from fv.evaluation.tables import NO_VECTOR
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
from fv.report.facts import LEAD_CONTRASTS, Facts
from fv.report.limits import LIMITS, Limits
from fv.vectors.names import GLOBAL

_COSTLY = ("fv", "random_vector", "corrupted_prompts", "layer_mean_added", "layer_mean_replaced")
_WIDE = 6.8
"""Inches; of a figure with more names than one column has room for."""
_IN_A_COLUMN = 12
"""Names that one column has room for."""


class Picture(NamedTuple):
    """A figure of the page.

    Attributes:
        name: of its files, without the suffix.
        caption: what is seen, in sentences.
        figure: the figure.
    """

    name: str
    caption: str
    figure: DataFigure

    @property
    def is_wide(self) -> bool:
        """Whether it is wider than one column."""
        return bool(self.figure.get_size_inches()[0] > COLUMN)


def pictures_of(facts: Facts, limits: Limits = LIMITS) -> list[Picture]:
    """Every figure that the run has tables for; per relation, those of the first relations within the limits."""
    shown = facts.q_ids[: limits.relations]
    in_matrix = dict(list(facts.relation_of_vector.items())[: limits.names])
    of_heads = (_heads(facts, shown), _stability(facts), _shared_heads(facts, limits.names))
    of_vectors = (
        *(_head_counts(facts), _contrasts(facts, shown), _transfer(facts, in_matrix), _cosines(facts, in_matrix)),
        _cost(facts, shown),
    )
    return list(itertools.chain(*of_heads, *of_vectors, _of_relations(facts, shown)))


def _heads(facts: Facts, shown: list[str]) -> Iterator[Picture]:
    scores = pd.concat([_chosen_of(facts, "aie_stats", ["AIE"]), _chosen_of(facts, "cie_stats", shown)])
    yield Picture(
        "heads",
        "Indirect effect of each attention head: how much the right answer's log probability rises in a prompt with "
        "wrong examples when this one head's output is replaced by its mean over prompts with right ones. One panel a "
        "relation, the first their average (AIE). Framed: the heads that the vector is made of. Intervals are each "
        f"head's own.{' Hatched: heads whose effect was estimated and not measured.' if facts.screen else ''}",
        head_heatmap(scores, shape=facts.shape, confidence=facts.confidence, width=_WIDE if len(shown) > 3 else COLUMN),
    )


def _stability(facts: Facts) -> Iterator[Picture]:
    if facts.heads.empty:
        return
    rankings, heads = facts.stability["rankings"], facts.heads
    yield Picture(
        "inclusion",
        f"How often each head is among the top {facts.k} of the average over relations when the trials are drawn again "
        "with replacement.",
        inclusion_probabilities(
            heads[heads["ranking"] == GLOBAL].assign(ranking="the AIE"), facts.k, rankings[GLOBAL]["n_trials"]
        ),
    )
    names = {GLOBAL: "AIE", **facts.q_id_of_ranking}
    curves = [{"ranking": names[name], **point} for name, each in rankings.items() for point in each["convergence"]]
    if any(point["overlap_apart"] is not None for point in curves):
        yield Picture(
            "convergence",
            f"Share of the top {facts.k} heads that two rankings agree on, each of n trials and none in common.",
            ranking_convergence(pd.DataFrame(curves), facts.k),
        )


def _shared_heads(facts: Facts, most: int) -> Iterator[Picture]:
    if facts.heads.empty or len(facts.q_ids) < 2:
        return
    rankings = list(facts.q_id_of_ranking)[:most]
    own = facts.heads[facts.heads["ranking"].isin(rankings) & facts.heads["chosen"]]
    yield Picture(
        "shared_heads",
        "Share of the row's top heads that are among the column's, too.",
        overlap_heatmap(own.assign(q_id=own["ranking"].map(facts.q_id_of_ranking)), width=_width(len(rankings))),
    )


def _chosen_of(facts: Facts, name: str, shown: list[str]) -> pd.DataFrame:
    """A table of effects of these relations, with `chosen`; the average over relations is called AIE."""
    table = facts.table(name)
    table = table[table["metric"] == facts.run.config["score"]["key"]].assign(metric="mean_delta_logprob")
    table = table.assign(q_id="AIE") if "q_id" not in table else table[table["q_id"].isin(shown)]
    if facts.heads.empty:
        return table
    top = facts.heads[facts.heads["chosen"]]
    names = top["ranking"].map({GLOBAL: "AIE", **facts.q_id_of_ranking})
    there = set(zip(names, top["layer"], top["head"], strict=True))
    keys = table[["q_id", "layer", "head"]].itertuples(index=False, name=None)
    return table.assign(chosen=[key in there for key in keys])


def _head_counts(facts: Facts) -> Iterator[Picture]:
    if facts.own.empty or facts.of_each_k["k"].nunique() < 2:
        return
    yield Picture(
        "head_count",
        "Effect on test trials of vectors of different numbers of heads, each at its own chosen cell. Ringed: the "
        "number that the dev trials choose.",
        effect_by_head_count(facts.of_each_k.assign(chosen=facts.of_each_k["best_k"]), confidence=facts.confidence),
    )


def _contrasts(facts: Facts, shown: list[str]) -> Iterator[Picture]:
    if facts.contrasts.empty:
        return
    of_vector = (facts.contrasts["condition"] == "fv") & facts.contrasts["minus"].isin(LEAD_CONTRASTS)
    rows = facts.contrasts[of_vector & facts.contrasts["eval_qid"].isin(shown)]
    if len(rows):
        yield Picture(
            "contrasts",
            "The vector's log probability of the right answer minus that of each control or baseline on the same test "
            "trials: right of zero the vector is better.",
            contrast_forest(rows, confidence=facts.confidence),
        )


def _transfer(facts: Facts, relation: dict[str, str]) -> Iterator[Picture]:
    """Of relations' own vectors: {vector's name: its relation}."""
    transfer = facts.table("transfer")
    if transfer.empty or len(relation) < 2:
        return
    rows = transfer[transfer["fv"].isin(relation) & transfer["eval_qid"].isin(relation.values())]
    rows = rows.assign(fv=rows["fv"].map(relation))
    words = {"effect": "against the prompt without a vector", "effect_minus_control": "beyond random vectors"}
    for value in (name for name in words if rows[name].notna().any()):
        yield Picture(
            value.replace("effect", "transfer"),
            f"What each relation's vector does on each relation's test trials, {words[value]}, at the cell chosen for "
            "the pair.",
            transfer_heatmap(rows, value, confidence=facts.confidence, width=_width(len(relation))),
        )


def _cosines(facts: Facts, relation: dict[str, str]) -> Iterator[Picture]:
    cosines = facts.table("fv_cosines")
    if cosines.empty or len(relation) < 2:
        return
    # By place: a vector may be called fv, too.
    places = [place for place, name in enumerate(cosines.iloc[:, 0]) if name in relation]
    names = [relation[str(cosines.iloc[place, 0])] for place in places]
    square = cosines.iloc[places, [0, *(place + 1 for place in places)]].set_axis(["fv", *names], axis=1)
    square.isetitem(0, names)
    yield Picture("cosines", "Cosine between relations' vectors.", cosine_heatmap(square, width=_width(len(names))))


def _cost(facts: Facts, shown: list[str]) -> Iterator[Picture]:
    tables = [facts.of_own(table, unpaired=True) for table in (facts.held_out, facts.table("injection_cost"))]
    if tables[1].empty:
        return
    effects, cost = (table[table["condition"].isin(_COSTLY) & table["eval_qid"].isin(shown)] for table in tables)
    yield Picture(
        "cost",
        "Effect on the relation's test trials against the change that the same injection makes to next-token "
        "probabilities on unrelated texts. Up and left is better; one mark a relation and draw.",
        effect_against_cost(effects, cost, confidence=facts.confidence),
    )


def _of_relations(facts: Facts, shown: list[str]) -> Iterator[Picture]:
    """Figures of one relation each."""
    if facts.own.empty:
        return
    cells = pd.DataFrame(facts.summary["rows"])
    trials = facts.table("held_out_trials")
    for row in facts.own[facts.own["eval_qid"].isin(shown)].itertuples():
        q_id, fv = str(row.eval_qid), str(row.fv)
        of_pair = cells[(cells["fv"] == fv) & (cells["eval_qid"] == q_id)]
        chosen = (of_pair["layer"] == row.layer) & (of_pair["alpha"] == row.alpha)
        levels = {
            name: [np.nan if found[end] is None else found[end] for end in ("mean", "ci_low", "ci_high")]
            for name, own in (("few_shot", NO_VECTOR), ("random_vector", fv))
            if (found := facts.measured(q_id, name, "delta_logprob", own))
        }
        number = shown.index(q_id) + 1
        yield Picture(
            f"layers_{number:02}",
            f"{q_id}: effect of its vector by the layer that it is added at, over dev and test trials together. The "
            "ringed cell was chosen by dev trials; the grey lines are of test trials alone.",
            effect_by_layer(of_pair.assign(chosen=chosen, fv=q_id), baselines=levels, confidence=facts.confidence),
        )
        if trials.empty:
            continue
        own = trials[(trials["eval_qid"] == q_id) & trials["fv"].isin([fv, NO_VECTOR]) & (trials["draw"] == 0)]
        yield Picture(
            f"trials_{number:02}",
            f"{q_id}: log probability of the right answer's first token in each test trial, without the vector, with "
            f"it, and with {facts.run.config['data']['n_demos']} right examples in its place.",
            before_and_after(own),
        )


def _width(n_names: int) -> float:
    return _WIDE if n_names > _IN_A_COLUMN else COLUMN
