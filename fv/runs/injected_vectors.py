"""Vectors that Step6 injects, and the relations that each is evaluated on."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fv.config import EvalScopeConfig, InjectionConfig
from fv.config.injection import VectorChoice
from fv.data.origin import Origin
from fv.data.snapshot import Snapshot
from fv.errors import ConfigError, shorten
from fv.evaluation.scope import scope_of
from fv.heads.ranking import Ranking
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.runs.results import StepdResults
from fv.runs.vector_files import read_global, read_relation_vectors
from fv.vectors.file import read_vector
from fv.vectors.kinds import HeadsBy
from fv.vectors.made_vector import injected_vector, relations_of
from fv.vectors.maker import FitTrials
from fv.vectors.makers import injected_makers
from fv.vectors.making import made
from fv.vectors.names import source_name
from fv.vectors.vector import Vector
from fv.vectors.vector_heads import vector_of
from fv.work.flow import Flow

log = logging.getLogger(__name__)


def vectors_of(
    injection: InjectionConfig, ranking: Ranking, paths: RunPaths, lm: LanguageModel, stepd: StepdResults
) -> list[Vector]:
    """Make the vectors of StepE or of a file that `injection` names, or one for each `injection.k`.

    Makers' vectors are left out: `vectors_flow` makes them.

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
        stored = [choice for choice in injection.choices if not choice.is_made]
        return [one for each in stored for one in _stored_vectors(each, injection, paths, lm, stepd.snapshot)]
    name = injection.called("k")

    def values_of(vector: Vector) -> Tensor:
        k, of_aie = vector.k or ranking.k, vector.made_as.heads_by is HeadsBy.aie
        return vector_of(lm, stepd.effects, vector.source_qid, ranking, k, of_aie, name)

    return [replace(vector, values=values_of(vector)) for vector in outlines_of(injection, stepd.snapshot)]


def vectors_flow(
    injection: InjectionConfig, known: Sequence[Vector], snapshot: Snapshot, fit: Callable[[str], FitTrials]
) -> Flow[list[Vector]]:
    """Make all vectors that `injection` names, in the order of `outlines_of`.

    Args:
        injection: the settings.
        known: the vectors of `vectors_of`.
        snapshot: the trials.
        fit: returns the fit trials of a relation, for makers.

    Raises:
        NoVectorError: a maker's edits are no injections of a vector.
    """
    makers, outlines = injected_makers(injection), outlines_of(injection, snapshot)
    if not makers:
        return list(known)
    relations = {q_id: fit(q_id) for q_id in relations_of(outlines, makers)}
    results = yield from made(makers, relations)
    origins, others = {q_id: Origin.of(of.lm, of.snapshot) for q_id, of in relations.items()}, iter(known)

    def vector_of_outline(outline: Vector) -> Vector:
        if outline.kind not in makers:
            return next(others)
        q_id = str(outline.source_qid)
        return injected_vector(outline.kind, q_id, results[q_id, outline.kind].options, origins[q_id])

    return [vector_of_outline(outline) for outline in outlines]


def outlines_of(injection: InjectionConfig, snapshot: Snapshot) -> list[Vector]:
    """Make all vectors that `injection` names without their values, which needs neither the model nor a file.

    Raises:
        ConfigError: `injection.fv_source_qid` is not in the snapshot, or two vectors would have the same name.
    """
    found = [vector for choice in injection.choices for vector in _outlines(choice, injection, snapshot)]
    twins = [name for name, count in Counter(vector.name for vector in found).items() if count > 1]
    if twins:
        raise ConfigError(f"Two vectors would be called {twins[0]}: give the relation of this name another one.")
    return found


def _outlines(choice: VectorChoice, injection: InjectionConfig, snapshot: Snapshot) -> list[Vector]:
    """The vectors of one value of `injection.fv`, without their values."""
    ks: Sequence[int | None] = injection.k or [None]
    return [
        Vector(source, kind, q_id, torch.empty(0), k, of_several=k is not None)
        for source, kind, q_id in _sources(choice, injection, snapshot)
        for k in ks
    ]


def stored_vectors_of(injection: InjectionConfig, stored: Mapping[str, Vector], snapshot: Snapshot) -> list[Vector]:
    """Take the vectors of `vectors_of` from StepE's: there is no `injection.k`, and no vector of another file.

    Args:
        injection: the settings.
        stored: StepE's vectors by name.
        snapshot: the trials.
    """
    return [stored[name] for choice in injection.choices for name, _, _ in _sources(choice, injection, snapshot)]


def _stored_vectors(
    choice: VectorChoice, injection: InjectionConfig, paths: RunPaths, lm: LanguageModel, snapshot: Snapshot
) -> list[Vector]:
    """Read the vectors of one value of `injection.fv`, from StepE's files or from the file of `injection.fv_path`."""
    outlines = _outlines(choice, injection, snapshot)
    if choice.from_file:
        found = read_vector(Path(str(injection.fv_path)), lm, layered=True)
        return [replace(each, values=found.values, origin=found.origin) for each in outlines]
    folder = paths.stepe_to_read
    if not choice.of_relation:
        return [replace(each, **read_global(folder, lm)._asdict()) for each in outlines]
    stored = read_relation_vectors(folder, choice.kind, lm)
    return [replace(each, **stored[str(each.source_qid)]._asdict()) for each in outlines]


def _sources(choice: VectorChoice, injection: InjectionConfig, snapshot: Snapshot) -> list[tuple[str, str, str | None]]:
    """Source, kind and relation of each vector of one value of `injection.fv`."""
    named = injection.fv_source_qid if choice.takes_source else None
    if not choice.of_relation:
        return [(source_name(choice.kind, None), choice.kind, named)]
    if named is not None and named not in snapshot.qids:
        raise ConfigError(
            f"injection.fv_source_qid={named} is not in the snapshot; it has {shorten(snapshot.qids, 40)}."
        )
    qids = snapshot.qids if named is None else [named]
    return [(source_name(choice.kind, q_id), choice.kind, q_id) for q_id in qids]


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
