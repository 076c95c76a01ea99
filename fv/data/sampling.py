"""Sampling a snapshot of trials from relations, or replaying another snapshot."""

import dataclasses
import itertools
import logging
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

from fv.collector import paused_collector
from fv.config import DataConfig, ModelConfig, Split
from fv.data.collisions import first_token_collisions
from fv.data.corruption_report import corruption_report
from fv.data.encoder import Encoder, HasTokenizer
from fv.data.relation_sampler import QidTrials, RelationSampler
from fv.data.relations import Relations, normalise
from fv.data.snapshot import Snapshot, parse_snapshot
from fv.data.snapshot_meta import Collisions, Meta, QidCounts, Rejections, SourceFile
from fv.data.targets import accepted, target_tokens
from fv.errors import ArtifactError, TrialError
from fv.files import read_json, sha256_of
from fv.models.language_model import LanguageModel
from fv.models.special_tokens import adds_special_tokens

log = logging.getLogger(__name__)


@paused_collector()
def sample_snapshot(
    file: Relations,
    data: DataConfig,
    seed: int,
    lm: HasTokenizer,
    add_special_tokens: str | bool = ModelConfig.add_special_tokens,
    name: str = "add_special_tokens",
) -> Snapshot:
    """Sample every relation's trials.

    Args:
        file: the relations.
        data: the counts and kinds of trials.
        seed: the seed of all draws.
        lm: the model, or another holder of its tokenizer.
        add_special_tokens: `auto` or true for the special tokens that the tokenizer adds by itself, false for none.
        name: the name of `add_special_tokens` in messages.

    Raises:
        TrialError: a relation cannot give its trials, or no relation gives any.
    """
    special = adds_special_tokens(lm.tokenizer, add_special_tokens)
    encoder = Encoder(lm, special, name)
    sampled: dict[str, QidTrials] = {}
    collisions: dict[str, Collisions] = {}
    for relation in file.relations:
        sampler = RelationSampler(relation, data, seed, encoder)
        sampled[relation.q_id] = sampler.sample()
        if sampled[relation.q_id].count("fit"):
            collisions[relation.q_id] = first_token_collisions(relation.pairs, data.template, encoder)
    dropped = [q_id for q_id, result in sampled.items() if not result.count("fit")]
    kept = {q_id: result for q_id, result in sampled.items() if q_id not in dropped}
    if not kept:
        reasons = "; ".join(reason for result in sampled.values() for reason in result.reasons[:1])
        raise TrialError(
            f"No relation of {file.path} gives a single trial. First reasons: {reasons or 'too few pairs'}"
        )
    relations = {relation.q_id: relation for relation in file.relations}
    meta = Meta(
        schema_version=1,
        seed=seed,
        n_demos=data.n_demos,
        split_policy=data.split.value,
        hold_out=data.hold_out.value,
        corruption=data.corruption.value,
        add_special_tokens=special,
        template=dataclasses.asdict(data.template),
        tokenizer=_tokenizer_identity(lm),
        relation_csv=SourceFile(path=data.source, sha256=file.sha256),
        columns=dataclasses.asdict(data.columns),
        counts={q_id: _counts(result, data) for q_id, result in sampled.items()},
        dropped_qids=dropped,
        rejections={
            q: Rejections(n_rejected=r.n_rejected, reasons=r.reasons) for q, r in sampled.items() if r.n_rejected
        },
        duplicates={q: r.n_duplicates for q, r in relations.items() if r.n_duplicates},
        one_to_many={q: r.n_one_to_many for q, r in relations.items() if r.n_one_to_many},
        first_token_collisions=collisions,
        replayed_from=None,
        clusters={q: r.cluster for q, r in relations.items() if r.cluster is not None},
    )
    return Snapshot(meta=meta, trials=[trial for result in kept.values() for trial in result.trials])


def replay_snapshot(path: Path, qids: list[str] | None, lm: LanguageModel) -> Snapshot:
    """Use the trials of another snapshot instead of sampling (for debugging only).

    Raises:
        ArtifactError: the file does not fit the schema, lacks a requested relation, or has token ids of another
            tokenizer.
    """
    value = read_json(path)
    snapshot = parse_snapshot(value, path)
    if qids is not None:
        unknown = sorted(set(qids) - set(snapshot.qids))
        if unknown:
            raise ArtifactError(f"{path} has no trials of {', '.join(unknown)}; it has {', '.join(snapshot.qids)}.")
        snapshot = snapshot.only(qids)
    check_tokens(snapshot, lm, path)
    source = SourceFile(path=str(path), sha256=sha256_of(path))
    return snapshot.model_copy(update={"meta": snapshot.meta.model_copy(update={"replayed_from": source})})


def check_tokens(snapshot: Snapshot, lm: LanguageModel, path: Path) -> None:
    """Refuse a snapshot whose target tokens this model's tokenizer does not give.

    Raises:
        ArtifactError: names the first trial that differs, and both tokenizers.
    """
    encoder = snapshot.encoder(lm)
    for trial in snapshot.trials:
        for ids in target_tokens(encoder, [(text, trial.target_str) for text in trial.prompts.values()]):
            try:
                found = list(accepted(ids))
            except TrialError as error:
                raise ArtifactError(f"{path}: trial {trial.trial_id}: {error}") from None
            if found != trial.target_token_ids:
                raise ArtifactError(
                    f"{path}: trial {trial.trial_id} has target tokens {trial.target_token_ids}, and {lm.name} gives "
                    f"{found}. The snapshot was made with tokenizer {snapshot.meta.tokenizer}, this one is "
                    f"{_tokenizer_identity(lm)}."
                )


def log_warnings(file: Relations | None, snapshot: Snapshot, called: Callable[[str], str] = str) -> None:
    """Log warnings and notes on a snapshot and its relations.

    Args:
        file: the relations that the trials were sampled from; None for a replayed snapshot.
        snapshot: the trials.
        called: gives the name of a field of `DataConfig` in the lines: its own, or its key in the user's settings.
    """
    for line in file.warnings() if file else []:
        log.warning(line)
    meta = snapshot.meta
    for q_id, collisions in meta.first_token_collisions.items():
        if collisions.n_colliding:
            log.warning(
                f"{q_id}: the first target tokens of {collisions.n_colliding} of {collisions.n_outputs} outputs "
                f"collide ({collisions.rate:.0%}); the score cannot tell these apart."
            )
    for q_id, of_relation in itertools.groupby(sorted(snapshot.trials, key=attrgetter("q_id")), attrgetter("q_id")):
        trials, recorded = list(of_relation), meta.first_token_collisions.get(q_id)
        shown = {normalise(demo.exB) for trial in trials for demo in trial.demos}
        report = corruption_report(trials, max(len(shown), recorded.n_outputs if recorded else 0))
        for line in report.warnings(called("corruption")):
            log.warning(line)
        for line in report.notes():
            log.info(line)
    for q_id, rejections in meta.rejections.items():
        log.warning(f"{q_id}: {rejections.n_rejected} candidate trials rejected; first: {rejections.reasons[0]}")
    for q_id, counts in meta.counts.items():
        if (counts.fit, counts.eval) != (counts.fit_asked, counts.eval_asked):
            log.warning(
                f"{q_id}: {counts.fit} of {counts.fit_asked} fit and {counts.eval} of {counts.eval_asked} eval trials"
                f"{' - dropped' if q_id in meta.dropped_qids else ''} ({called('allow_drop')}=true)."
            )


def _counts(result: QidTrials, data: DataConfig) -> QidCounts:
    held_out = data.split is Split.held_out
    return QidCounts(
        fit_asked=data.n_trials_per_q,
        fit=result.count("fit"),
        eval_asked=data.n_eval_trials_per_q if held_out else 0,
        eval=result.count("eval"),
    )


def _tokenizer_identity(lm: HasTokenizer) -> dict[str, str]:
    return {"class": type(lm.tokenizer).__name__, "sha256": lm.fingerprint["tokenizer_sha256"]}
