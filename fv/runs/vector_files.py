"""Files of vectors: StepE's, read back or written, and those that `injection.fv_path` names (spec section 4)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fv.config import InjectionConfig
from fv.data.origin import Origin
from fv.errors import ArtifactError
from fv.files import read_json, read_torch, reading, sha256_of
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.runs.commands import command
from fv.runs.outputs import verify_outputs
from fv.runs.paths import AIE_META, FV_META, SNAPSHOT, TOP_HEADS, RunPaths
from fv.runs.records import AieRecord, StepERecord, read_record
from fv.runs.refusals import refuse_difference
from fv.vectors.file import read_vector
from fv.vectors.names import GLOBAL, source_name
from fv.vectors.values import flaw_of
from fv.vectors.vector import Vector

FILES = {"global": "fv_global_resid.pt", "qid": "fv_qid.pt", "all_qids": "fv_qid.pt", "aie_qid": "fv_aie_qid.pt"}
"""Where StepE writes the vectors of each `injection.fv`."""


class StoredVector(NamedTuple):
    """A vector, (d_model,), and of how many heads it is made."""

    values: Tensor
    k: int


def vector_inputs(injection: InjectionConfig, paths: RunPaths, snapshot: dict[str, str]) -> dict[str, str]:
    """{file: SHA-256} of the vectors' files, after refusing one that StepE did not make from this run's trials.

    Args:
        injection: the settings.
        paths: the run's.
        snapshot: {`sampled_trials.json`: its SHA-256}.

    Raises:
        ArtifactError: a file is missing, was changed, or is of another run.
    """
    hashes = {}
    if "file" in injection.fvs:
        path = Path(str(injection.fv_path))
        if not path.is_file():
            raise ArtifactError(f"injection.fv_path={path} does not exist.")
        _verify_beside(path, snapshot)
        hashes["fv_file"] = sha256_of(path)
    names = [FILES[fv] for fv in injection.fvs if fv in FILES]
    if not names:
        return hashes
    folder = paths.stepe_to_read
    if not (folder / FV_META).exists():
        first = command("stepe", f"run_id={paths.root.name} (with this command's other settings)")
        raise ArtifactError(f"There are no function vectors in {folder}. Run StepE first: {first}")
    for name in (*names, TOP_HEADS):
        if not (folder / name).exists():
            raise ArtifactError(
                f"{folder / name} is missing: it was removed, or an older StepE ran. Run StepE with overwrite=true."
            )
        _verify_beside(folder / name, snapshot)
        hashes[name] = sha256_of(folder / name)
    return hashes


def vector_hashes(outputs: Mapping[str, str]) -> dict[str, str]:
    """{file: SHA-256} of StepE's vectors and of what they are made of, from all of its outputs."""
    names = [*dict.fromkeys(FILES.values()), TOP_HEADS]
    return {name: outputs[name] for name in names}


def read_global(folder: Path, lm: LanguageModel) -> StoredVector:
    """The vector that StepE made of the AIE over all relations.

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    return StoredVector(read_vector(folder / FILES["global"], lm).values, read_json(folder / TOP_HEADS)["k"])


def read_relation_vectors(folder: Path, fv: str, lm: LanguageModel) -> dict[str, StoredVector]:
    """{q_id: its vector} as StepE made them for `injection.fv`, in the model's precision or float32.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    dtype = torch.promote_types(lm.dtype, torch.float32)
    stored = _of_relations(folder / FILES[fv], lm.d_model)
    return {q_id: StoredVector(own["vector"].to(dtype), own["k"]) for q_id, own in stored.items()}


def stored_vectors(folder: Path, outputs: Mapping[str, str], origin: Origin) -> dict[str, Vector]:
    """Every vector of a StepE by its name, as it was stored.

    Args:
        folder: where StepE wrote.
        outputs: {file: SHA-256} of its metadata.
        origin: the model and prompts they were measured with.

    Raises:
        ArtifactError: a file is missing or was changed.
    """
    verify_outputs(folder, vector_hashes(outputs), "StepE")
    found = []
    for kind in ("qid", "aie_qid"):
        for q_id, own in _of_relations(folder / FILES[kind]).items():
            heads = tuple(Head(*head) for head in own["heads"])
            name = source_name(kind, q_id)
            found.append(Vector(name, kind, q_id, own["vector"], own["k"], heads=heads, origin=origin))
    ranked = read_json(folder / TOP_HEADS)
    heads = tuple(Head(row["layer"], row["head"]) for row in ranked["global"])
    overall = read_torch(folder / FILES["global"])
    if flaw := flaw_of(overall):
        raise ArtifactError(f"{folder / FILES['global']} holds {flaw}, where a vector is due.")
    found.append(Vector(GLOBAL, GLOBAL, None, overall, ranked["k"], heads=heads, origin=origin))
    return {vector.name: vector for vector in found}


def _of_relations(path: Path, d_model: int | None = None) -> dict[str, dict[str, Any]]:
    """{q_id: its vector, heads and k} of a file of vectors.

    Raises:
        ArtifactError: the file is missing or damaged, or holds no vectors of this width.
    """
    stored = read_torch(path)
    with reading(path):
        for q_id, own in stored.items():
            if flaw := flaw_of(own["vector"], d_model):
                raise ArtifactError(f"{path} holds {flaw} of {q_id}, where a vector is due.")
    return stored


def _verify_beside(path: Path, snapshot: dict[str, str]) -> None:
    """Refuse a vector's file that changed or is of another run's trials, where its record is beside it.

    Raises:
        ArtifactError: naming both hashes.
    """
    for name, kind in ((FV_META, StepERecord), (AIE_META, AieRecord)):
        if not (path.parent / name).exists():
            continue
        record = read_record(path.parent / name, kind)
        if path.name in record.outputs:
            verify_outputs(path.parent, {path.name: record.outputs[path.name]}, "StepE")
            there = {SNAPSHOT: record.inputs[SNAPSHOT]}
            refuse_difference(
                there, snapshot, f"The vector {path}", "It is of another run: artifacts of two runs are mixed."
            )
