"""Which vectors Step6 injects, where they come from, and into which relations."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fv.artifacts import AIE_META, FV_META, RunPaths, read_json, read_torch, sha256_of, verify_outputs
from fv.config import Config, FvChoice
from fv.controls import VectorHeads
from fv.errors import ArtifactError, ConfigError, shorten
from fv.injection import Vector, read_vector, scope_of
from fv.models.language_model import LanguageModel
from fv.run import read_meta, refuse_difference
from fv.snapshot import Snapshot
from fv.steps.stepd_results import StepdResults

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranking:
    """How StepE ranked heads, and how many of them it took."""

    key: str
    k: int

    @classmethod
    def of(cls, config: Config, paths: RunPaths) -> "Ranking":
        """StepE's; the configuration's own where the vector is from a file."""
        if config.injection.fv is FvChoice["file"]:
            return cls(config.score.key.value, config.score.k)
        ranked = read_json(paths.stepe_to_read / "top_heads.json")
        return cls(ranked["score_key"], ranked["k"])


def vector_inputs(config: Config, paths: RunPaths, trials: dict[str, str]) -> dict[str, str]:
    """{file: SHA-256} of the vectors' files, after refusing one that StepE did not make from this run's trials."""
    injection = config.injection
    if injection.fv is FvChoice["file"]:
        path = Path(str(injection.fv_path))
        if not path.is_file():
            raise ArtifactError(f"injection.fv_path={path} does not exist.")
        _verify_beside(path, trials)
        return {"fv_file": sha256_of(path)}
    folder = paths.stepe_to_read
    if not (folder / FV_META).exists():
        command = f"python -m entrypoints.stepe run_id={config.run_id} (with this command's other settings)"
        raise ArtifactError(f"There are no function vectors in {folder}. Run StepE first: {command}")
    hashes = {}
    for name in ("fv_global_resid.pt" if injection.fv is FvChoice["global"] else "fv_qid.pt", "top_heads.json"):
        if not (folder / name).exists():
            raise ArtifactError(
                f"{folder / name} is missing, though StepE wrote it. Run StepE again with overwrite=true."
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
    """The vectors that the configuration names, by source and k: StepE's or a file's, or one for each `injection.k`.

    Raises:
        ConfigError: `injection.fv_source_qid` is not in the snapshot, or fewer heads were swept than a k.
    """
    if config.injection.k is None:
        return _read_vectors(config, paths, lm, stepd.snapshot)
    return _vectors_of_each_k(config, lm, stepd, Ranking.of(config, paths))


def _read_vectors(config: Config, paths: RunPaths, lm: LanguageModel, snapshot: Snapshot) -> list[Vector]:
    """The vectors that StepE made, or the one in a file."""
    injection, folder = config.injection, paths.stepe_to_read
    if injection.fv is FvChoice["file"]:
        return [Vector("file", "file", injection.fv_source_qid, read_vector(Path(str(injection.fv_path)), lm))]
    if injection.fv is FvChoice["global"]:
        k = read_json(folder / "top_heads.json")["k"]
        return [Vector("global", "global", None, read_vector(folder / "fv_global_resid.pt", lm), k)]
    stored: dict[str, Any] = read_torch(folder / "fv_qid.pt")
    dtype = torch.promote_types(lm.dtype, torch.float32)
    return [
        Vector(q_id, "qid", q_id, stored[q_id]["vector"].to(dtype), stored[q_id]["k"])
        for q_id in _sources(config, snapshot)
    ]


def _vectors_of_each_k(config: Config, lm: LanguageModel, stepd: StepdResults, ranking: Ranking) -> list[Vector]:
    """One vector for each of `injection.k`, all of one source from one ranking."""
    if config.injection.fv is FvChoice["global"]:
        sources: list[tuple[str, str, str | None]] = [("global", "global", None)]
    else:
        sources = [(q_id, "qid", q_id) for q_id in _sources(config, stepd.snapshot)]
    return [
        Vector(source, kind, q_id, stepd.vector_of(lm, q_id, ranking.key, k), k, of_several=True)
        for source, kind, q_id in sources
        for k in config.injection.k
    ]


def _sources(config: Config, snapshot: Snapshot) -> list[str]:
    if config.injection.fv is FvChoice["all_qids"]:
        return snapshot.qids
    source = str(config.injection.fv_source_qid)
    if source not in snapshot.qids:
        raise ConfigError(
            f"injection.fv_source_qid={source} is not in the snapshot; it has {shorten(snapshot.qids, 40)}."
        )
    return [source]


def made_of(vector: Vector, stepd: StepdResults, ranking: Ranking) -> VectorHeads | None:
    """The heads a vector was made of; None for one from a file."""
    if vector.kind == "file" or vector.k is None:
        return None
    return stepd.heads_of(vector.source_qid, ranking.key, vector.k)


def plan_of(config: Config, snapshot: Snapshot, vectors: Sequence[Vector]) -> list[tuple[Vector, list[str]]]:
    """Each vector with the relations it is evaluated on.

    Raises:
        ConfigError: no relation has eval trials, or the scope names one that has none.
    """
    known = [q_id for q_id in snapshot.qids if snapshot.of(q_id, snapshot.eval_split)]
    for q_id in sorted(set(snapshot.qids) - set(known)):
        log.warning("%s has no eval trials in the snapshot and is left out.", q_id)
    alone = config.injection.fv is not FvChoice["all_qids"]
    plan = [(vector, scope_of(vector, config.eval_scope, alone, known)) for vector in vectors]
    if not any(qids for _, qids in plan):
        raise ConfigError(
            "No relation of the snapshot has eval trials. Sample some: data.n_eval_trials_per_q, or data.split=shared."
        )
    return plan
