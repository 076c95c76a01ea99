"""Reports on a relation under a tokenizer: tokens of its answers, and the trials that it can give (spec section 5)."""

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from fv.config import DataConfig
from fv.data.capacity import Capacity
from fv.data.corruption_report import CorruptionReport, corruption_report
from fv.data.encoder import Encoder
from fv.data.relation_sampler import RelationSampler
from fv.data.relations import Pair, Relation, normalise
from fv.data.targets import zero_shot_targets
from fv.data.trial import Trial
from fv.errors import TrialError


@dataclass(frozen=True)
class TokenReport:
    """A relation under one tokenizer.

    Attributes:
        q_id: the relation.
        n_pairs: distinct pairs.
        n_outputs: outputs that differ in normal form.
        majority: share of pairs that have the most frequent output.
        target_tokens: fewest, mean and most tokens of an answer; zeros if no pair can be a query.
        mismatches: the pairs that cannot be queries, each with the reason (target boundary, prompt too long).
        collisions: outputs that share their first token, one tuple per token.
        capacity: the largest possible counts of demonstrations and trials.
        corruption: the report on the corrupted prompts of the configured trials; None without trials.
        refusal: the reason that the configured trials cannot be sampled; None if they can.
    """

    q_id: str
    n_pairs: int
    n_outputs: int
    majority: float
    target_tokens: tuple[int, float, int]
    mismatches: list[tuple[Pair, str]]
    collisions: list[tuple[str, ...]]
    capacity: Capacity
    corruption: CorruptionReport | None
    refusal: str | None


def token_report(relation: Relation, data: DataConfig, seed: int, encoder: Encoder) -> TokenReport:
    """Tokenise every pair after its zero-shot prompt, sample the relation's trials, and report on both."""
    lengths: list[int] = []
    usable: list[bool] = []
    mismatches: list[tuple[Pair, str]] = []
    outputs: dict[str, str] = {}
    sharing: dict[int, dict[str, None]] = defaultdict(dict)  # an ordered set
    for pair, ids in zero_shot_targets(encoder, data.template, relation.pairs):
        usable.append(not isinstance(ids, TrialError))
        if isinstance(ids, TrialError):
            mismatches.append((pair, str(ids)))
            continue
        lengths.append(len(ids))
        if outputs.setdefault(normalise(pair.exB), pair.exB) == pair.exB:
            sharing[ids[0]][pair.exB] = None
    counts = Counter(normalise(pair.exB) for pair in relation.pairs)
    sampler = RelationSampler(relation, data, seed, encoder)
    trials, refusal = _trials(sampler)
    return TokenReport(
        q_id=relation.q_id,
        n_pairs=len(relation.pairs),
        n_outputs=len(counts),
        majority=counts.most_common(1)[0][1] / len(relation.pairs),
        target_tokens=(min(lengths), float(np.mean(lengths)), max(lengths)) if lengths else (0, 0.0, 0),
        mismatches=mismatches,
        collisions=[tuple(several) for several in sharing.values() if len(several) > 1],
        capacity=sampler.capacity(np.array(usable)),
        corruption=corruption_report(trials, len(counts)) if trials else None,
        refusal=refusal,
    )


def _trials(sampler: RelationSampler) -> tuple[list[Trial], str | None]:
    """The sampled trials, and the reason if there are none."""
    try:
        found = sampler.sample()
    except TrialError as error:
        return [], str(error)
    refusal = f"{sampler.relation.q_id}: no fit trial ({sampler.data.called('allow_drop')}=true)"
    return found.trials, None if found.count("fit") else refusal
