"""Which vectors Step6 injects, where they come from, and into which relations."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from fv.config import Config
from fv.data.snapshot import Snapshot
from fv.errors import ConfigError, shorten
from fv.evaluation.scope import scope_of
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.runs.results import StepdResults, ranking_of
from fv.runs.vector_files import read_global, read_relation_vectors
from fv.vectors.file import read_vector
from fv.vectors.made_of import vector_of
from fv.vectors.names import source_name
from fv.vectors.vector import Vector

log = logging.getLogger(__name__)


def vectors_of(config: Config, paths: RunPaths, lm: LanguageModel, stepd: StepdResults) -> list[Vector]:
    """The vectors that the configuration names, by kind, source and k: StepE's or a file's, or one for each
    `injection.k`.

    Raises:
        ConfigError: `injection.fv_source_qid` is not in the snapshot, or fewer heads were swept than a k.
    """
    injection = config.injection
    if injection.k is None:
        return [vector for fv in injection.fvs for vector in _stored_vectors(fv, config, paths, lm, stepd.snapshot)]
    ranking = ranking_of(config, paths)
    return [
        Vector(
            source,
            kind,
            q_id,
            vector_of(lm, stepd.effects, q_id, ranking, k, kind == "aie_qid", injection.called("k")),
            k,
            of_several=True,
            in_matrix=fv == "all_qids",
        )
        for fv in injection.fvs
        for source, kind, q_id in _sources(fv, config, stepd.snapshot)
        for k in injection.k
    ]


def stored_vectors_of(config: Config, stored: Mapping[str, Vector], snapshot: Snapshot) -> list[Vector]:
    """The same where StepE's files hold them all: there is no `injection.k`, and no vector of another file.

    Args:
        config: the configuration.
        stored: StepE's vectors by name.
        snapshot: the trials.
    """
    return [stored[name] for fv in config.injection.fvs for name, _, _ in _sources(fv, config, snapshot)]


def _stored_vectors(fv: str, config: Config, paths: RunPaths, lm: LanguageModel, snapshot: Snapshot) -> list[Vector]:
    """The vectors of one `injection.fv` that StepE made, or the one in a file."""
    if fv == "file":
        q_id = config.injection.fv_source_qid
        values = read_vector(Path(str(config.injection.fv_path)), lm)
        return [Vector(source_name(fv, q_id), fv, q_id, values)]
    if fv == "global":
        stored = read_global(paths.stepe_to_read, lm)
        return [Vector(source_name(fv, None), fv, None, stored.values, stored.k)]
    of_relation = read_relation_vectors(paths.stepe_to_read, fv, lm)
    return [
        Vector(source, kind, q_id, of_relation[q_id].values, of_relation[q_id].k, in_matrix=fv == "all_qids")
        for source, kind, q_id in _sources(fv, config, snapshot)
        if q_id is not None
    ]


def _sources(fv: str, config: Config, snapshot: Snapshot) -> list[tuple[str, str, str | None]]:
    """Source, kind and relation of each vector of one `injection.fv`."""
    if fv == "global":
        return [(source_name(fv, None), fv, None)]
    named = config.injection.fv_source_qid if fv != "all_qids" else None
    if named is not None and named not in snapshot.qids:
        raise ConfigError(
            f"injection.fv_source_qid={named} is not in the snapshot; it has {shorten(snapshot.qids, 40)}."
        )
    qids = snapshot.qids if named is None else [named]
    kind = "aie_qid" if fv == "aie_qid" else "qid"
    return [(source_name(kind, q_id), kind, q_id) for q_id in qids]


def plan_of(config: Config, snapshot: Snapshot, vectors: Sequence[Vector]) -> list[tuple[Vector, list[str]]]:
    """Each vector with the relations it is evaluated on.

    Raises:
        ConfigError: no relation has eval trials, or the scope names one that has none.
    """
    known = [q_id for q_id in snapshot.qids if snapshot.of(q_id, snapshot.eval_split)]
    for q_id in sorted(set(snapshot.qids) - set(known)):
        log.warning("%s has no eval trials in the snapshot and is left out.", q_id)
    plan = [(vector, scope_of(vector, config.eval_scope, known)) for vector in vectors]
    if not any(qids for _, qids in plan):
        raise ConfigError(
            "No relation of the snapshot has eval trials. Sample some: data.n_eval_trials_per_q, or data.split=shared."
        )
    return plan
