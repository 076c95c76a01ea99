"""Vectors that Step6 injects, and the relations that each is evaluated on."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fv.config import EvalScopeConfig, InjectionConfig
from fv.data.snapshot import Snapshot
from fv.errors import ConfigError, shorten
from fv.evaluation.scope import scope_of
from fv.heads.ranking import Ranking
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.runs.results import StepdResults
from fv.runs.vector_files import read_global, read_relation_vectors
from fv.vectors.file import read_vector
from fv.vectors.names import source_name
from fv.vectors.vector import Vector
from fv.vectors.vector_heads import vector_of

log = logging.getLogger(__name__)


def vectors_of(
    injection: InjectionConfig, ranking: Ranking, paths: RunPaths, lm: LanguageModel, stepd: StepdResults
) -> list[Vector]:
    """Make the vectors that `injection` names: those of StepE or of a file, or one for each `injection.k`.

    Args:
        injection: the settings.
        ranking: the ranking of heads.
        paths: the paths of the run.
        lm: the model.
        stepd: StepD's results.

    Returns:
        the vectors, ordered by kind, source and k.

    Raises:
        ConfigError: `injection.fv_source_qid` is not in the snapshot, or fewer heads than a k were swept.
    """
    if injection.k is None:
        fvs, snapshot = injection.fvs, stepd.snapshot
        return [vector for fv in fvs for vector in _stored_vectors(fv, injection, paths, lm, snapshot)]
    name = injection.called("k")

    def values_of(vector: Vector) -> Tensor:
        k, of_aie = vector.k or ranking.k, vector.kind == "aie_qid"
        return vector_of(lm, stepd.effects, vector.source_qid, ranking, k, of_aie, name)

    return [replace(vector, values=values_of(vector)) for vector in outlines_of(injection, stepd.snapshot)]


def outlines_of(injection: InjectionConfig, snapshot: Snapshot) -> list[Vector]:
    """Make the vectors of `vectors_of` without their values, which needs neither the model nor a file.

    Raises:
        ConfigError: `injection.fv_source_qid` is not in the snapshot.
    """
    return [vector for fv in injection.fvs for vector in _outlines(fv, injection, snapshot)]


def _outlines(fv: str, injection: InjectionConfig, snapshot: Snapshot) -> list[Vector]:
    """The vectors of one `injection.fv`, without their values."""
    ks: Sequence[int | None] = injection.k or [None]
    return [
        Vector(source, kind, q_id, torch.empty(0), k, of_several=k is not None)
        for source, kind, q_id in _sources(fv, injection, snapshot)
        for k in ks
    ]


def stored_vectors_of(injection: InjectionConfig, stored: Mapping[str, Vector], snapshot: Snapshot) -> list[Vector]:
    """Take the vectors of `vectors_of` from StepE's: there is no `injection.k`, and no vector of another file.

    Args:
        injection: the settings.
        stored: StepE's vectors by name.
        snapshot: the trials.
    """
    return [stored[name] for fv in injection.fvs for name, _, _ in _sources(fv, injection, snapshot)]


def _stored_vectors(
    fv: str, injection: InjectionConfig, paths: RunPaths, lm: LanguageModel, snapshot: Snapshot
) -> list[Vector]:
    """Read the vectors of one `injection.fv`, from StepE's files or from the file of `injection.fv_path`."""
    outlines = _outlines(fv, injection, snapshot)
    if fv == "file":
        found = read_vector(Path(str(injection.fv_path)), lm)
        return [replace(each, values=found.values, origin=found.origin) for each in outlines]
    folder = paths.stepe_to_read
    if fv == "global":
        return [replace(each, **read_global(folder, lm)._asdict()) for each in outlines]
    stored = read_relation_vectors(folder, fv, lm)
    return [replace(each, **stored[str(each.source_qid)]._asdict()) for each in outlines]


def _sources(fv: str, injection: InjectionConfig, snapshot: Snapshot) -> list[tuple[str, str, str | None]]:
    """Source, kind and relation of each vector of one `injection.fv`."""
    if fv == "global":
        return [(source_name(fv, None), fv, None)]
    if fv == "file":
        return [(source_name(fv, None), fv, injection.fv_source_qid)]
    named = injection.fv_source_qid if fv != "all_qids" else None
    if named is not None and named not in snapshot.qids:
        raise ConfigError(
            f"injection.fv_source_qid={named} is not in the snapshot; it has {shorten(snapshot.qids, 40)}."
        )
    qids = snapshot.qids if named is None else [named]
    kind = "aie_qid" if fv == "aie_qid" else "qid"
    return [(source_name(kind, q_id), kind, q_id) for q_id in qids]


def plan_of(scope: EvalScopeConfig, snapshot: Snapshot, vectors: Sequence[Vector]) -> list[tuple[Vector, list[str]]]:
    """Pair each vector with the relations that it is evaluated on.

    Raises:
        ConfigError: no relation has eval trials, or the scope names a relation without any.
    """
    known = [q_id for q_id in snapshot.qids if snapshot.of(q_id, snapshot.eval_split)]
    for q_id in sorted(set(snapshot.qids) - set(known)):
        log.warning("%s has no eval trials in the snapshot and is left out.", q_id)
    plan = [(vector, scope_of(vector, scope, known)) for vector in vectors]
    if not any(qids for _, qids in plan):
        raise ConfigError(
            "No relation of the snapshot has eval trials. Sample some: data.n_eval_trials_per_q, or data.split=shared."
        )
    return plan
