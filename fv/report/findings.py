"""Findings of a run in words: one paragraph per relation, and warnings."""

from fv.errors import shorten
from fv.evaluation.tables import NO_VECTOR
from fv.evaluation.words import known_words, lead_contrasts
from fv.report.headline import UNCHANGED, in_a_sentence, verb_of
from fv.report.results import RunResults
from fv.report.screen import screen_sentences
from fv.report.words import number, page_interval
from fv.tables import TableRow

MOST_HEADS, MOST_NAMED = 5, 12
"""Largest numbers of heads and of relations that a sentence names."""


def what_was_done(results: RunResults) -> list[str]:
    """Describe the run in sentences: model, relations, trials, and the choice of heads, layer and strength."""
    config, n_fit = results.run.config, len(results.run.trials.fit)
    relations = f"{len(results.q_ids)} relation{'s' if len(results.q_ids) > 1 else ''}"
    screen = results.screen
    tried = "every attention head was"
    if screen:
        tried = f"{screen['n_verified']['all']} of {screen['n_heads']} attention heads were each"
    found = [
        f"In {config.model.name}, {tried} tried on {n_fit} prompts of {relations}: in a prompt "
        "with wrong examples, its output was replaced by its mean over prompts with right examples. The resulting "
        "change in the right answer's log probability is the head's indirect effect."
    ]
    if screen:
        found.append(
            f"{screen_sentences(screen)} The estimates choose the heads that are measured; a head that they miss is in "
            "no ranking and no vector."
        )
    if results.stability:
        found.append(
            f"A relation's function vector is the sum of the average outputs of its {results.k} best heads, each "
            "through its own output projection."
        )
    if len(results.own):
        found.append(_how_chosen(results))
    return found


def finding_of(results: RunResults, row: TableRow) -> list[str]:
    """Sentences on one relation; `row` is its row of `RunResults.own`."""
    q_id = row["eval_qid"]
    ends = [row[f"mean_delta_logprob{end}"] for end in ("", "_ci_low", "_ci_high")]
    change, verb = page_interval(*ends), verb_of(*ends[1:])
    by = f"by {change} nats" if verb != UNCHANGED else f"({change} nats)"
    before, after = (f"{share:.2f}" for share in results.closing.answered(row))
    counted = "accuracy" if results.closing.lead(q_id) == "top1" else "exact match"
    n_worse = round(row["harm_rate"] * row["n_test"])
    found = [
        f"Added at layer {row['layer']} with α = {number(row['alpha'])}, the vector of {q_id}{_heads(results, row)} "
        f"{verb} the right answer's log probability {by}; {counted} goes from {before} to {after} "
        f"(n = {row['n_test']}, {n_worse} worse)."
    ]
    found += _headline(results, q_id)
    for minus in lead_contrasts():
        thing = known_words()[minus].thing
        if thing and (difference := results.difference(q_id, minus)):
            beyond = page_interval(difference.mean, difference.ci_low, difference.ci_high)
            found.append(f"It {_compared(difference.ci_low, difference.ci_high)} {thing} ({beyond} nats).")
    if examples := results.measured(q_id, "few_shot", "delta_logprob", NO_VECTOR):
        gain = page_interval(examples.mean, examples.ci_low, examples.ci_high)
        found.append(f"Right examples in the prompt, without the vector, change it by {gain} nats.")
    if cost := results.cost(q_id):
        found.append(f"On {cost.n} unrelated texts it costs {number(cost.mean)} nats of KL divergence.")
    return found


def _headline(results: RunResults, q_id: str) -> list[str]:
    """Sentences on logit differences, on the contrast with corrupted prompts, and on answers in fit prompts."""
    row = results.headline.get(q_id)
    if row is None:
        return []
    found = []
    if row["delta_logit_difference"] is not None:
        ends = [row[f"delta_logit_difference{end}"] for end in ("", "_ci_low", "_ci_high")]
        found.append(
            f"The right answer's logit, minus the best of the relation's other answers, changes by "
            f"{page_interval(*ends)}; an equal rise of all answer-like words would not change it."
        )
    if row["minus_corrupted"] is not None:
        ends = [row[f"minus_corrupted{end}"] for end in ("", "_ci_low", "_ci_high")]
        p = f", {in_a_sentence(row['p_holm'])} adjusted over relations" if row["p_holm"] is not None else ""
        null = results.null.get((row["fv"], q_id))
        p += f", {in_a_sentence(null[0])} under the null of {null[1]} shuffled relations" if null else ""
        found.append(
            f"The vector {_compared(*ends[1:])} the same heads' vector over wrong examples "
            f"({page_interval(*ends)} nats{p})."
        )
        if row["minus_corrupted_logit_difference"] is not None:
            of_logits = [row[f"minus_corrupted_logit_difference{end}"] for end in ("", "_ci_low", "_ci_high")]
            than = {"raises": "is larger than", "lowers": "is smaller than"}
            words = than.get(verb_of(*of_logits[1:]), "does not differ measurably from")
            found.append(f"Its logit difference {words} that vector's ({page_interval(*of_logits)}).")
    if row["share_of_few_shot"] is not None:
        share = row["share_of_few_shot"]
        found.append(f"Its change in log probability is {share:.0%} of the change by right examples in the prompt.")
    if not row["n_answer_new"]:
        found.append("Every right answer of its test trials also occurs in a fit prompt.")
    return found


def _compared(low: float | None, high: float | None) -> str:
    """Verb phrase that compares the vector with a control, from the interval of their difference."""
    words = {"raises": "does better than", "lowers": "does worse than"}
    return words.get(verb_of(low, high), "does not differ measurably from")


def what_to_mind(results: RunResults) -> list[str]:
    """Warnings: the steps' own, ties at k, colliding first tokens, dropped relations and pairs, steps not run."""
    meta = results.run.trials.snapshot.meta
    found = [*results.missing, *(results.summary.warnings if results.summary else []), *results.run.meta.warnings]
    if ties := _ties(results):
        found.append(
            f"The choice of the {results.k} best heads cuts through a tie: the interval of the last one's lead over "
            f"the next reaches zero in the ranking of {shorten(ties, MOST_NAMED)}."
        )
    colliding = {q: each.n_colliding for q, each in meta.first_token_collisions.items() if each.n_colliding}
    if colliding:
        named = shorten([f"{q_id} {n}" for q_id, n in colliding.items()], MOST_NAMED)
        found.append(f"Outputs that share their first token with another output of the relation: {named}.")
    if meta.dropped_qids:
        found.append(f"Relations dropped for lack of pairs: {shorten(list(map(str, meta.dropped_qids)), MOST_NAMED)}.")
    rejected = {q_id: each.n_rejected for q_id, each in meta.rejections.items() if each.n_rejected}
    if rejected:
        named = shorten([f"{q_id} {n}" for q_id, n in rejected.items()], MOST_NAMED)
        found.append(f"Pairs that could not be used in any trial: {named}.")
    return list(dict.fromkeys(found))


def _ties(results: RunResults) -> list[str]:
    """Rankings in which k cuts through a tie, each with the number of lower heads within error of the k-th."""
    rankings = results.stability["rankings"] if results.stability else {}
    gaps = {name: gap for name, ranking in rankings.items() if (gap := ranking["gap"])}
    return [
        f"{results.q_id_of_ranking.get(name, 'the AIE')} ({gap['n_within_error']} heads within error)"
        for name, gap in gaps.items()
        if gap["ci_low"] <= 0 <= gap["ci_high"]
    ]


def _how_chosen(results: RunResults) -> str:
    """Sentences on the choice of the vectors' cells, and on the trials behind the numbers."""
    assert results.summary
    layers, alphas = results.summary.layers, results.summary.alphas
    found = "The vector was added after one block at the last token of prompts without examples. "
    if not results.own["n_dev"].any():
        given = f"Layer {layers[0]} and α = {number(alphas[0])}"
        found += f"{given} were given, not chosen; the numbers are from all test trials"
    else:
        n_cells = len(layers) * len(alphas)
        what = f"layer and strength among {n_cells} cells" if n_cells > 1 else "the number of heads"
        found += f"Dev trials chose {what}; the numbers are from other trials, the test trials"
    found += f", with {results.confidence:.0%} intervals over them."
    if results.summary.eval_split == "fit":
        found += (
            " All of them are fit trials, which chose the heads and gave the vectors: every number is too favourable."
        )
    return found


def _heads(results: RunResults, row: TableRow) -> str:
    """Text of a vector's best heads, such as ` (10 heads: 20.5, 14.1, …)`."""
    if results.heads.empty:
        return ""
    ranked = results.heads[results.heads["ranking"].map(results.q_id_of_ranking) == row["eval_qid"]].sort_values("rank")
    k = int(row["k"]) if row["k"] else results.k
    names = [f"{each.layer}.{each.head}" for each in ranked.head(min(k, MOST_HEADS)).itertuples()]
    return f" ({k} head{'s' if k > 1 else ''}: {', '.join(names)}{', …' if k > len(names) else ''})"
