"""Caveats: sentences on problems that the numbers of a summary do not show (docs/methods.md, "Caveats")."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from fv.data.leaks import eval_pairs_elsewhere
from fv.data.shown_answers import answers_shown
from fv.data.snapshot import Snapshot
from fv.errors import shorten
from fv.evaluation.selection import choose_cells
from fv.evaluation.tables import ANSWER_NEW
from fv.heads.effects import Effects
from fv.heads.ranking import Ranking
from fv.vectors.kinds import HeadsBy, kind_of
from fv.vectors.names import source_name
from fv.vectors.vector import Vector
from fv.vectors.vector_heads import heads_of_vector

EXACT = "exact_match"
MANY_COLLISIONS = 0.5
"""Share of outputs with another output's first token, from which on first tokens say little about the answer."""
MANY_SHOWN = 0.5
"""Share of a relation's eval answers in fit prompts, above which there is a caveat."""
STEEP = 100.0
"""Growth factor of the residual stream's norm over the blocks, from which on there is a caveat."""
ONE_DIMENSION = 0.5
"""Share of a vector's squared norm in one dimension, above which there is a caveat."""
LEVEL = 0.05
"""Significance level of heads' q-values."""
MOST_NAMED = 12


def caveats(
    snapshot: Snapshot,
    measured: Effects | None,
    rows: pd.DataFrame,
    vectors: Sequence[Vector] = (),
    ranking: Ranking | None = None,
    name: str = "split",
) -> list[str]:
    """Sentences that apply to the trial rows of a grid, `fv.evaluation.trial_rows.TRIAL_COLUMNS`.

    Args:
        snapshot: the trials.
        measured: the effects that the vectors were built from; None if they are not known.
        rows: the trial rows.
        vectors: the injected vectors, as far as they are known.
        ranking: the ranking that chose their heads; None if it is not known.
        name: name, in the sentences, of the setting that makes eval trials held out or shared with the fit trials.
    """
    meta, qids = snapshot.meta, sorted(rows["eval_qid"].unique())
    found = []
    if snapshot.eval_split == "fit":
        found.append(
            f"{name}=shared: the trials reported here are the fit trials, which chose the heads and gave the "
            f"vectors; every number is too favourable. {name}=held_out reports on trials that had no part in this."
        )
    rates = {q_id: collisions.rate for q_id, collisions in meta.first_token_collisions.items() if q_id in qids}
    for q_id in says_nothing(rates):
        found.append(
            f"{q_id}: {rates[q_id]:.0%} of its outputs share their first token with another one, so log p and accuracy "
            f"of the first token say little; read {EXACT} and answer_logprob."
        )
    if snapshot.eval_split == "eval":
        found += _answers_shown(snapshot, qids)
    found += [*_ties(rows, measured), *_edges(rows, measured), *_one_dimension(vectors)]
    if measured is not None:
        found += _steep_streams(measured, qids)
        found += [] if ranking is None else _heads_near_zero(vectors, measured, ranking)
    return found + _leaks(snapshot, rows)


def _answers_shown(snapshot: Snapshot, qids: Sequence[str]) -> list[str]:
    counts = {q_id: [*answers_shown(snapshot, q_id).values()] for q_id in qids}
    many = [f"{q} {sum(own)} of {len(own)}" for q, own in counts.items() if sum(own) > MANY_SHOWN * len(own)]
    if not many:
        return []
    return [
        f"Most right answers of eval trials stand in fit prompts of their relation ({shorten(many, MOST_NAMED)}): a "
        f"vector may carry the answers themselves. Read subset={ANSWER_NEW}, or sample with hold_out=outputs."
    ]


def _ties(rows: pd.DataFrame, measured: Effects | None) -> list[str]:
    """Caveat on prompts after which the right answer shares the highest score with another token."""
    counted = {
        "few-shot prompts of fit trials": pd.Series(dtype=bool) if measured is None else measured.prompts["clean_tied"],
        "zero-shot prompts": rows.drop_duplicates(["eval_qid", "trial_id"])["baseline_tied"],
        "injections into them": rows["injected_tied"],
    }
    found = [f"{own.sum()} of {len(own)} {what}" for what, own in counted.items() if own.any()]
    if not found:
        return []
    return [
        f"The right answer shares the highest score with another token after {', '.join(found)}: a tie counts as "
        "wrong. Ties are frequent in 16-bit number formats, and rare in float32."
    ]


def _edges(rows: pd.DataFrame, measured: Effects | None) -> list[str]:
    """Caveat on vectors, in-domain or of no relation, whose chosen cell is at the edge of the grid."""
    chosen = choose_cells(rows)
    chosen = chosen[chosen["n_dev"] > 0]
    kinds = chosen["fv"].map(rows.drop_duplicates("fv").set_index("fv")["fv_kind"])
    of_none = ~kinds.map(lambda kind: kind_of(kind).of_relation).astype(bool)
    chosen = chosen[of_none | _in_domain(chosen.assign(fv_kind=kinds))]
    layers, alphas = sorted(rows["layer"].unique()), sorted(rows["alpha"].unique())
    last = max(layers) if measured is None else next(iter(measured.means.values())).clean.shape[0] - 1
    edges: dict[str, str] = {}
    if len(alphas) > 1:
        edges[f"alpha {alphas[-1]:g}, the largest"] = f"alpha == {alphas[-1]}"
        edges[f"alpha {alphas[0]:g}, the smallest"] = f"alpha == {alphas[0]}"
    if len(layers) > 1 and layers[0] > 0:
        edges[f"layer {layers[0]}, the first"] = f"layer == {layers[0]}"
    if len(layers) > 1 and layers[-1] < last:
        edges[f"layer {layers[-1]}, the last"] = f"layer == {layers[-1]}"
    found = []
    for edge, test in edges.items():
        if here := list(dict.fromkeys(chosen.query(test)["fv"])):
            found.append(f"{edge} of the grid ({shorten(here, MOST_NAMED)})")
    if not found:
        return []
    return [f"Chosen cells lie at an edge of the grid: {'; '.join(found)}. A wider grid may hold a better one."]


def _steep_streams(measured: Effects, qids: Sequence[str]) -> list[str]:
    norms = [measured.means[q_id].residual_norm for q_id in qids if q_id in measured]
    growth = max((float(norm.max() / norm.min()) for norm in norms if float(norm.min()) > 0), default=0.0)
    if growth < STEEP:
        return []
    return [
        f"The residual stream's norm grows {growth:,.0f}-fold over the blocks: heads of late layers swamp an earlier "
        "layer that their sum is added to, and α below 1 may do better."
    ]


def _one_dimension(vectors: Sequence[Vector]) -> list[str]:
    found = []
    for vector in vectors:
        squares = vector.values.double().reshape(-1, vector.values.shape[-1]) ** 2  # (1 or n_layers, d_model)
        shares = [float(own.max()) / total for own in squares if (total := float(own.sum()))]
        # A vector per layer counts by the mean over layers.
        if shares and (share := sum(shares) / len(shares)) > ONE_DIMENSION:
            found.append(f"{vector.name} {share:.0%}")
    if not found:
        return []
    return [
        f"One dimension holds over half of a vector's squared norm ({shorten(found, MOST_NAMED)}): norms, cosines and "
        "isotropic random vectors of the same norm say little."
    ]


def _heads_near_zero(vectors: Sequence[Vector], measured: Effects, ranking: Ranking) -> list[str]:
    """Caveat on relations' own vectors if the effects of at least half of their heads do not differ from zero."""
    found = []
    for vector in vectors:
        made_of = heads_of_vector(measured, vector, ranking) if vector.made_as.heads_by is HeadsBy.own else None
        if made_of is None or vector.source_qid is None:
            continue
        q_values = measured.q_values(vector.source_qid, ranking.key)
        n_near = sum(not q_values[head] < LEVEL for head in made_of.heads)
        if 2 * n_near >= len(made_of.heads):
            found.append(f"{vector.name} {n_near} of {len(made_of.heads)}")
    if not found:
        return []
    return [
        f"Heads whose effects do not differ from zero (q-value of {LEVEL:g} or more in cie_stats.csv) make up half or "
        f"more of a relation's own vector ({shorten(found, MOST_NAMED)})."
    ]


def says_nothing(rates: Mapping[str, float]) -> list[str]:
    """Relations whose outputs cannot be distinguished well enough by their first tokens."""
    return sorted(q_id for q_id, rate in rates.items() if rate >= MANY_COLLISIONS)


def _leaks(snapshot: Snapshot, rows: pd.DataFrame) -> list[str]:
    """Caveat on eval pairs that other relations' fit prompts contain, if vectors depend on other relations."""
    pairs = rows.drop_duplicates(["fv", "eval_qid"])
    # A vector of the relation's own heads and means has seen its own fit prompts only.
    made_of_others = pairs[pairs["fv_kind"].map(lambda kind: kind_of(kind).may_know_others) | ~_in_domain(pairs)]
    elsewhere = eval_pairs_elsewhere(snapshot)
    shown = {q_id: len(elsewhere[q_id]) for q_id in sorted(made_of_others["eval_qid"].unique())}
    if not sum(shown.values()):
        return []
    total = sum(len(snapshot.evaluated(q_id)) for q_id in shown)
    return [
        f"{sum(shown.values())} of {total} eval pairs stand in fit prompts of other relations "
        f"({_counted(shown.items())}): vectors made of several relations, and other relations' vectors, have seen them."
    ]


def _in_domain(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Rows of vectors that are named after the relation that they are evaluated on."""
    named = rows[["fv_kind", "fv_source", "eval_qid"]].itertuples(index=False)
    return pd.Series([source_name(kind, q_id) == source for kind, source, q_id in named], rows.index, dtype=bool)


def _counted(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{q_id} {count}" for q_id, count in counts if count)
