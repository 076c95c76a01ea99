"""Which vectors Step6 injects, where they come from, and into which relations."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fv.config import Config
from fv.data.snapshot import Snapshot
from fv.errors import ArtifactError, ConfigError, shorten
from fv.evaluation.scope import scope_of
from fv.files import read_json, read_torch, sha256_of
from fv.interventions.engine import Cell
from fv.models.language_model import LanguageModel
from fv.runs.metadata import read_meta, refuse_difference
from fv.runs.outputs import verify_outputs
from fv.runs.paths import AIE_META, FV_META, RunPaths
from fv.runs.results import StepdResults, ranking_of
from fv.vectors.file import read_vector
from fv.vectors.measured import Ranking
from fv.vectors.names import source_name
from fv.vectors.vector import Vector

log = logging.getLogger(__name__)


FILES = {"global": "fv_global_resid.pt", "qid": "fv_qid.pt", "all_qids": "fv_qid.pt", "aie_qid": "fv_aie_qid.pt"}
"""Where StepE writes the vectors of each `injection.fv`."""


def vector_inputs(config: Config, paths: RunPaths, trials: dict[str, str]) -> dict[str, str]:
    """{file: SHA-256} of the vectors' files, after refusing one that StepE did not make from this run's trials."""
    injection = config.injection
    hashes = {}
    if "file" in injection.fvs:
        path = Path(str(injection.fv_path))
        if not path.is_file():
            raise ArtifactError(f"injection.fv_path={path} does not exist.")
        _verify_beside(path, trials)
        hashes["fv_file"] = sha256_of(path)
    names = [FILES[fv] for fv in injection.fvs if fv in FILES]
    if not names:
        return hashes
    folder = paths.stepe_to_read
    if not (folder / FV_META).exists():
        command = f"python -m entrypoints.stepe run_id={config.run_id} (with this command's other settings)"
        raise ArtifactError(f"There are no function vectors in {folder}. Run StepE first: {command}")
    for name in (*names, "top_heads.json"):
        if not (folder / name).exists():
            raise ArtifactError(
                f"{folder / name} is missing: it was removed, or an older StepE ran. Run StepE with overwrite=true."
            )
        _verify_beside(folder / name, trials)
        hashes[name] = sha256_of(folder / name)
    return hashes


def _verify_beside(path: Path, trials: dict[str, str]) -> None:
    """When a vector file has its metadata beside it, refuse it if it changed or is of another run's trials.

    Raises:
        ArtifactError: naming both hashes.
    """
    for name in (FV_META, AIE_META):
        meta_path = path.parent / name
        if not meta_path.exists():
            continue
        meta = read_meta(meta_path)
        if path.name in meta["outputs"]:
            verify_outputs(path.parent, {path.name: meta["outputs"][path.name]}, "StepE")
            there = {"sampled_trials.json": meta["inputs"]["sampled_trials.json"]}
            refuse_difference(
                there, trials, f"The vector {path}", "It is of another run: artifacts of two runs are mixed."
            )


def vectors_of(config: Config, paths: RunPaths, lm: LanguageModel, stepd: StepdResults) -> list[Vector]:
    """The vectors that the configuration names, by kind, source and k: StepE's or a file's, or one for each
    `injection.k`.

    Raises:
        ConfigError: `injection.fv_source_qid` is not in the snapshot, or fewer heads were swept than a k.
    """
    kinds = config.injection.fvs
    if config.injection.k is None:
        return [vector for fv in kinds for vector in _read_vectors(fv, config, paths, lm, stepd.snapshot)]
    ranking = ranking_of(config, paths)
    return [vector for fv in kinds for vector in _vectors_of_each_k(fv, config, lm, stepd, ranking)]


def _read_vectors(fv: str, config: Config, paths: RunPaths, lm: LanguageModel, snapshot: Snapshot) -> list[Vector]:
    """The vectors of one `injection.fv` that StepE made, or the one in a file."""
    injection, folder = config.injection, paths.stepe_to_read
    if fv == "file":
        q_id = injection.fv_source_qid
        return [Vector(source_name(fv, q_id), fv, q_id, read_vector(Path(str(injection.fv_path)), lm))]
    if fv == "global":
        k = read_json(folder / "top_heads.json")["k"]
        return [Vector(source_name(fv, None), fv, None, read_vector(folder / FILES[fv], lm), k)]
    stored: dict[str, Any] = read_torch(folder / FILES[fv])
    dtype = torch.promote_types(lm.dtype, torch.float32)
    return [
        Vector(source, kind, q_id, stored[q_id]["vector"].to(dtype), stored[q_id]["k"], in_matrix=fv == "all_qids")
        for source, kind, q_id in _sources(fv, config, snapshot)
        if q_id is not None
    ]


def _vectors_of_each_k(
    fv: str, config: Config, lm: LanguageModel, stepd: StepdResults, ranking: Ranking
) -> list[Vector]:
    """One vector for each of `injection.k`, all of one source from one ranking."""
    own = {"of_several": True, "in_matrix": fv == "all_qids"}
    name = config.injection.called("k")

    def values(kind: str, q_id: str | None, k: int) -> torch.Tensor:
        return stepd.measured.vector_of(lm, q_id, ranking, k, kind == "aie_qid", name)

    return [
        Vector(source, kind, q_id, values(kind, q_id, k), k, **own)
        for source, kind, q_id in _sources(fv, config, stepd.snapshot)
        for k in config.injection.k
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


def has_choice(config: Config, cells: Sequence[Cell]) -> bool:
    """Whether there is more than one layer, alpha or k to choose from."""
    return len(cells) > 1 or len(config.injection.k or []) > 1
