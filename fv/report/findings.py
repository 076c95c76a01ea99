"""What a run found, in words: a paragraph a relation, and what to mind."""

from typing import Any

from fv.errors import shorten
from fv.evaluation.tables import NO_VECTOR
from fv.report.facts import Facts
from fv.report.headline import UNCHANGED, in_a_sentence, verb_of
from fv.report.screened import screen_sentences
from fv.report.words import interval, number

MOST_HEADS, MOST_NAMED = 5, 12
"""Heads and relations that a sentence names."""


def what_was_done(facts: Facts) -> list[str]:
    """The run in sentences: model, relations, trials, how heads, layer and strength were chosen."""
    config, n_fit = facts.run.config, len(facts.run.trials.fit)
    relations = f"{len(facts.q_ids)} relation{'s' if len(facts.q_ids) > 1 else ''}"
    screen = facts.screen
    tried = "every attention head was"
    if screen:
        tried = f"{screen['n_verified']['all']} of {screen['n_heads']} attention heads were each"
    found = [
        f"In {config.model.name}, {tried} tried on {n_fit} prompts of {relations}: in a prompt "
        "with wrong examples, its output was replaced by its mean over prompts with right ones. A head's indirect "
        "effect is what that adds to the right answer's log probability."
    ]
    if screen:
        found.append(
            f"{screen_sentences(screen)} The estimates choose which heads are measured; a head that they miss is in no "
            "ranking and no vector."
        )
    if facts.stability:
        found.append(
            f"The average outputs of a relation's {facts.k} best heads, each through its own output projection, add up "
            "to its function vector."
        )
    if len(facts.own):
        found.append(_how_chosen(facts))
    return found


def finding_of(facts: Facts, row: dict[str, Any]) -> list[str]:
    """Sentences on one relation; `row` is its row of `Facts.own`."""
    q_id = row["eval_qid"]
    ends = [row[f"mean_delta_logprob{end}"] for end in ("", "_ci_low", "_ci_high")]
    change, verb = interval(*ends), verb_of(*ends[1:])
    by = f"by {change} nats" if verb != UNCHANGED else f"({change} nats)"
    before, after = (f"{share:.2f}" for share in facts.closing.answered(row))
    counted = "accuracy" if facts.closing.lead(q_id) == "top1" else "exact match"
    n_worse = round(row["harm_rate"] * row["n_test"])
    found = [
        f"Added at layer {row['layer']} with α = {number(row['alpha'])}, the vector of {q_id}{_heads(facts, row)} "
        f"{verb} the right answer's log probability {by}; {counted} goes from {before} to {after} "
        f"(n = {row['n_test']}, {n_worse} worse)."
    ]
    found += _headline(facts, q_id)
    for minus, words in (
        ("layer_mean_added", "the difference of means of its best layer"),
        ("layer_mean_replaced", "the layer mean put in the residual stream's place"),
    ):
        if difference := facts.difference(q_id, minus):
            beyond = difference["mean"], difference["ci_low"], difference["ci_high"]
            found.append(f"It {_compared(*beyond[1:])} {words} ({interval(*beyond)} nats).")
    if examples := facts.measured(q_id, "few_shot", "delta_logprob", NO_VECTOR):
        gain = interval(examples["mean"], examples.get("ci_low"), examples.get("ci_high"))
        found.append(f"Right examples in the prompt gain {gain} nats.")
    if cost := facts.cost(q_id):
        found.append(f"On {cost['n']} unrelated texts it costs {number(cost['mean'])} nats of KL divergence.")
    return found


def _headline(facts: Facts, q_id: str) -> list[str]:
    """Sentences on the vector minus that of wrong examples, on where the answer stands, and on answers seen."""
    row = facts.headline.get(q_id)
    if row is None:
        return []
    found = []
    if row["delta_logit_difference"] is not None:
        ends = [row[f"delta_logit_difference{end}"] for end in ("", "_ci_low", "_ci_high")]
        found.append(
            f"Its logit minus the best of the relation's other answers changes by {interval(*ends)}: what is left of "
            "it where every answer-like word rises."
        )
    if row["minus_corrupted"] is not None:
        ends = [row[f"minus_corrupted{end}"] for end in ("", "_ci_low", "_ci_high")]
        p = f", {in_a_sentence(row['p_holm'])} adjusted over relations" if row["p_holm"] is not None else ""
        null = facts.null.get((row["fv"], q_id))
        p += f", {in_a_sentence(null[0])} under the null of {null[1]} shuffled relations" if null else ""
        found.append(f"It {_compared(*ends[1:])} the same heads' vector of wrong examples ({interval(*ends)} nats{p}).")
        if row["minus_corrupted_logit_difference"] is not None:
            of_logits = [row[f"minus_corrupted_logit_difference{end}"] for end in ("", "_ci_low", "_ci_high")]
            than = {"raises": "is larger than", "lowers": "is smaller than"}
            words = than.get(verb_of(*of_logits[1:]), "does not differ measurably from")
            found.append(f"Its logit difference {words} that vector's ({interval(*of_logits)}).")
    if row["share_of_few_shot"] is not None:
        share = row["share_of_few_shot"]
        found.append(f"Its change of log probability is {share:.0%} of what right examples in the prompt gain.")
    if not row["n_answer_new"]:
        found.append("Every right answer of its test trials stands in a fit prompt.")
    return found


def _compared(low: float | None, high: float | None) -> str:
    """What an interval of a difference says of the vector beside something else."""
    words = {"raises": "does better than", "lowers": "does worse than"}
    return words.get(verb_of(low, high), "does not differ measurably from")


def what_to_mind(facts: Facts) -> list[str]:
    """Warnings: those of the steps, ties at k, first tokens that collide, what was dropped, what has not run."""
    meta = facts.run.trials.snapshot.meta
    found = [*facts.missing, *(facts.summary.warnings if facts.summary else []), *facts.run.meta.warnings]
    if ties := _ties(facts):
        found.append(
            f"Where the {facts.k} best heads end, they end in a tie: the last one's lead over the next has an interval "
            f"that reaches zero in the ranking of {shorten(ties, MOST_NAMED)}."
        )
    colliding = {q: each.n_colliding for q, each in meta.first_token_collisions.items() if each.n_colliding}
    if colliding:
        named = shorten([f"{q_id} {n}" for q_id, n in colliding.items()], MOST_NAMED)
        found.append(f"Outputs that share their first token with another of the relation: {named}.")
    if meta.dropped_qids:
        found.append(f"Dropped for want of pairs: {shorten(list(map(str, meta.dropped_qids)), MOST_NAMED)}.")
    rejected = {q_id: each.n_rejected for q_id, each in meta.rejections.items() if each.n_rejected}
    if rejected:
        named = shorten([f"{q_id} {n}" for q_id, n in rejected.items()], MOST_NAMED)
        found.append(f"Pairs that no trial could ask: {named}.")
    return list(dict.fromkeys(found))


def _ties(facts: Facts) -> list[str]:
    """The rankings whose top k ends in a tie, each with how many heads below are within error of the last one."""
    gaps = {name: ranking["gap"] for name, ranking in facts.stability.get("rankings", {}).items() if ranking["gap"]}
    return [
        f"{facts.q_id_of_ranking.get(name, 'the AIE')} ({gap['n_within_error']} heads within error)"
        for name, gap in gaps.items()
        if gap["ci_low"] <= 0 <= gap["ci_high"]
    ]


def _how_chosen(facts: Facts) -> str:
    """How the vectors' cells came about, and which trials the numbers are of."""
    assert facts.summary
    layers, alphas = facts.summary.layers, facts.summary.alphas
    found = "The vector was added after one block at the last token of prompts without examples. "
    if not facts.own["n_dev"].any():
        found += (
            f"Layer {layers[0]} and α = {number(alphas[0])} were given, not chosen; the numbers are of all test trials"
        )
    else:
        n_cells = len(layers) * len(alphas)
        what = f"layer and strength among {n_cells} cells" if n_cells > 1 else "the number of heads"
        found += f"Dev trials chose {what}; the numbers are of other trials, the test trials"
    found += f", with {facts.confidence:.0%} intervals over them."
    if facts.summary.eval_split == "fit":
        found += " All of them are fit trials, which chose the heads and made the vectors: every number flatters."
    return found


def _heads(facts: Facts, row: dict[str, Any]) -> str:
    """` (10 heads: 20.5, 14.1, …)`, best first."""
    if facts.heads.empty:
        return ""
    ranked = facts.heads[facts.heads["ranking"].map(facts.q_id_of_ranking) == row["eval_qid"]].sort_values("rank")
    k = int(row["k"]) if row.get("k") else facts.k
    names = [f"{each.layer}.{each.head}" for each in ranked.head(min(k, MOST_HEADS)).itertuples()]
    return f" ({k} head{'s' if k > 1 else ''}: {', '.join(names)}{', …' if k > len(names) else ''})"
