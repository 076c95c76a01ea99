"""What a relation is to a tokenizer, and how many trials it can give (spec section 5)."""

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from fv.config import Config, DataConfig, Split
from fv.errors import TrialError
from fv.models.language_model import LanguageModel
from fv.prompts import render, render_target, tokenize
from fv.relations import Pair, Relation, normalise
from fv.trials import RelationSampler, kin_groups


@dataclass(frozen=True)
class Capacity:
    """The most a relation supports of each count while the other two stay as configured, whatever the seed."""

    demos: int
    fit: int
    eval: int


@dataclass(frozen=True)
class TokenReport:
    """A relation under one tokenizer.

    Attributes:
        q_id: the relation.
        n_pairs: distinct pairs.
        n_outputs: outputs that differ in normal form.
        majority: share of pairs that have the most frequent output.
        target_tokens: fewest, mean and most tokens of an answer; zeros when no pair can be a query.
        mismatches: the pairs that cannot be queries, and why (target boundary, prompt too long).
        collisions: outputs that share their first token, one tuple a token.
        capacity: how many demonstrations and trials there could be.
        refusal: why trials cannot be sampled as configured; null when they can.
    """

    q_id: str
    n_pairs: int
    n_outputs: int
    majority: float
    target_tokens: tuple[int, float, int]
    mismatches: list[tuple[Pair, str]]
    collisions: list[tuple[str, ...]]
    capacity: Capacity
    refusal: str | None


def check_tokens(relation: Relation, config: Config, lm: LanguageModel) -> TokenReport:
    """Tokenise every pair behind its zero-shot prompt, and sample the relation's trials as StepD would."""
    data = config.data
    lengths: list[int] = []
    usable: list[bool] = []
    mismatches: list[tuple[Pair, str]] = []
    outputs: dict[str, str] = {}
    sharing: dict[int, dict[str, None]] = defaultdict(dict)  # an ordered set
    for pair in relation.pairs:
        prompt, target = render(data.template, [], pair.exA), render_target(data.template, pair.exB)
        try:
            ids = tokenize(lm, prompt, target, config.model.add_special_tokens).target
        except TrialError as error:
            mismatches.append((pair, str(error)))
            usable.append(False)
            continue
        usable.append(True)
        lengths.append(len(ids))
        if outputs.setdefault(normalise(pair.exB), pair.exB) == pair.exB:
            sharing[ids[0]][pair.exB] = None
    counts = Counter(normalise(pair.exB) for pair in relation.pairs)
    return TokenReport(
        q_id=relation.q_id,
        n_pairs=len(relation.pairs),
        n_outputs=len(counts),
        majority=counts.most_common(1)[0][1] / len(relation.pairs),
        target_tokens=(min(lengths), float(np.mean(lengths)), max(lengths)) if lengths else (0, 0.0, 0),
        mismatches=mismatches,
        collisions=[tuple(several) for several in sharing.values() if len(several) > 1],
        capacity=capacity(kin_groups(relation.pairs), np.array(usable), data),
        refusal=_refusal(relation, config, lm),
    )


def capacity(groups: np.ndarray, usable: np.ndarray, data: DataConfig) -> Capacity:
    """How far each count could be raised alone.

    Args:
        groups: the kin group of each pair, (n_pairs,).
        usable: whether each pair can be a query, (n_pairs,).
        data: the other counts and the split policy.
    """
    n_groups = len(np.unique(groups))
    # Eval queries come from different groups, and each sets its whole group aside: the largest ones at worst.
    sizes = sorted(Counter(groups[usable].tolist()).values(), reverse=True)
    if data.split is Split.shared:
        fit = sum(sizes) if n_groups > data.n_demos else 0
        return Capacity(demos=max(0, n_groups - 1), fit=fit, eval=0)
    n_eval = 0
    left = int(usable.sum())
    for size in sizes:
        if n_groups - n_eval <= data.n_demos + 1 or left - size < data.n_trials_per_q:
            break
        n_eval, left = n_eval + 1, left - size
    asked = data.n_eval_trials_per_q
    return Capacity(
        demos=max(0, n_groups - asked - 1),
        fit=sum(sizes[asked:]) if n_groups - asked > data.n_demos else 0,
        eval=n_eval,
    )


def _refusal(relation: Relation, config: Config, lm: LanguageModel) -> str | None:
    try:
        sampler = RelationSampler(relation, config.data, config.seed, lm, config.model.add_special_tokens)
        return None if sampler.sample().count("fit") else f"{relation.q_id}: no fit trial (data.allow_drop=true)"
    except TrialError as error:
        return str(error)
