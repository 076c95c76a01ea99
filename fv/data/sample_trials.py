"""Sampling trials by arguments alone, without the settings of a run: `fv.sample_trials`."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fv.config import Corruption, DataConfig, HoldOut, Split, TemplateConfig
from fv.data.encoder import with_tokenizer
from fv.data.reading import RelationsLike, as_relations
from fv.data.relations import in_clusters
from fv.data.sampling import log_warnings, sample_snapshot
from fv.data.templates import template_of
from fv.data.trials import Trials
from fv.errors import TrialError, one_of, shorten

ARGUMENTS = {"n_demos": "demos", "n_trials_per_q": "fit", "n_eval_trials_per_q": "held_out"}
"""Arguments of `sample_trials` by the names that they have among the settings of a run."""
log = logging.getLogger(__name__)


@dataclass
class _Arguments(DataConfig):
    """Settings that have, in messages, the names of `sample_trials`' arguments."""

    def called(self, name: str) -> str:
        return ARGUMENTS.get(name, name)


def sample_trials(  # noqa: PLR0913 - each is a count or a choice of its own
    relations: RelationsLike,
    lm: Any,
    *,
    demos: int = DataConfig.n_demos,
    fit: int = DataConfig.n_trials_per_q,
    held_out: int = DataConfig.n_eval_trials_per_q,
    template: str | TemplateConfig = "qa",
    corruption: str = "derange",
    hold_out: str = "queries",
    clusters: Mapping[str, str] | None = None,
    add_special_tokens: str | bool = "auto",
    allow_drop: bool = False,
    seed: int = 42,
) -> Trials:
    """Sample every relation's trials (spec section 5).

    Held-out queries are set aside, with all pairs that would reveal them, before anything else is drawn. A relation's
    trials depend on the seed, the relation and the counts, never on other relations: a pipeline with the same settings
    has the same trials.

    Args:
        relations: the result of `fv.read_relations`, or `{"antonym": [("hot", "cold"), …]}`; a pair may also be a
            mapping with the keys that files use: `{"input": "hot", "output": "cold"}`.
        lm: the model, or its tokenizer alone.
        demos: demonstrations in a few-shot prompt.
        fit: trials per relation that find heads and make vectors; a relation with fewer queries uses them again with
            other demonstrations.
        held_out: trials per relation that evaluate vectors; 0 for none.
        template: a template by name (`qa`, `arrow`, …), or one of your own.
        corruption: how examples are made wrong: `derange`, so that no output stays right; or `permute`.
        hold_out: what fit prompts hide of a held-out query: its pair (`queries`), or every pair with its answer
            (`outputs`).
        clusters: {relation: cluster} for relations about the same words, which are not independent cases; None for the
            clusters that come with the relations. Recorded in the snapshot; no trial depends on them.
        add_special_tokens: `auto` for the special tokens that the tokenizer adds by itself (BOS), false for none.
        allow_drop: whether to go on with fewer trials if a relation cannot give all, and to leave out one without any.
        seed: the seed of all draws.

    Raises:
        RelationError: `relations` holds no relation.
        TrialError: a relation cannot give its trials, an argument is out of range, or `clusters` names no relation.
        ConfigError: there is no such template, or the template lacks a part.

    Example:
        >>> trials = fv.sample_trials({"antonym": pairs}, lm, demos=2, fit=2, held_out=2)
        >>> len(trials["antonym"].fit), len(trials["antonym"].held_out)
        (2, 2)
    """
    given = as_relations(relations)
    for name, value, least in (("demos", demos, 1), ("fit", fit, 1), ("held_out", held_out, 0), ("seed", seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise TrialError(f"{name}={value!r} must be a whole number of {least} or more.")
    kind_of_corruption = one_of("corruption", corruption, Corruption, TrialError)
    part_held_out = one_of("hold_out", hold_out, HoldOut, TrialError)
    if part_held_out is HoldOut.outputs and not held_out:
        raise TrialError("hold_out='outputs' has no effect with held_out=0, where nothing is held out.")
    if clusters is not None:
        if unknown := sorted(set(clusters) - set(given)):
            raise TrialError(f"clusters names {shorten(unknown)}; the relations are {shorten(list(given), 40)}.")
        given = in_clusters(given, clusters)
    if add_special_tokens not in ("auto", True, False):
        raise TrialError(f"add_special_tokens={add_special_tokens!r} must be 'auto', True or False.")
    data = _Arguments(
        path=str(given.path),
        template=template_of(template),
        n_demos=demos,
        n_trials_per_q=fit,
        n_eval_trials_per_q=held_out,
        split=Split.held_out if held_out else Split.shared,
        hold_out=part_held_out,
        corruption=kind_of_corruption,
        allow_drop=allow_drop,
    )
    snapshot = sample_snapshot(given, data, seed, with_tokenizer(lm), add_special_tokens)
    log_warnings(given, snapshot, data.called)
    return Trials(snapshot)
