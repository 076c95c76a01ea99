"""Files of vectors: those that StepE wrote, and the one that `injection.fv_path` names (spec section 4)."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypedDict

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
from fv.vectors.kinds import GLOBAL, OF_AIE, OWN
from fv.vectors.names import source_name
from fv.vectors.values import flaw_of
from fv.vectors.vector import Vector

FILES = {GLOBAL.name: "fv_global_resid.pt", OWN.name: "fv_qid.pt", OF_AIE.name: "fv_aie_qid.pt"}
"""{kind of vectors: the file of them that StepE wrote}."""


class StoredVector(NamedTuple):
    """A vector, (d_model,), and its number of heads."""

    values: Tensor
    k: int


class RelationVector(TypedDict):
    """A relation's vector in a file of StepE: (d_model,), with its heads as (layer, head), and their number."""

    vector: Tensor
    heads: list[tuple[int, int]]
    k: int


def vector_inputs(injection: InjectionConfig, paths: RunPaths, snapshot: dict[str, str]) -> dict[str, str]:
    """Compute {file: SHA-256} of the vectors' files; refuse files that StepE made from another run's trials.

    Args:
        injection: the settings.
        paths: the paths of the run.
        snapshot: {`sampled_trials.json`: its SHA-256}.

    Raises:
        ArtifactError: a file is missing, was changed, or belongs to another run.
    """
    hashes = {}
    if any(choice.from_file for choice in injection.choices):
        path = Path(str(injection.fv_path))
        if not path.is_file():
            raise ArtifactError(f"injection.fv_path={path} does not exist.")
        _verify_beside(path, snapshot)
        hashes["fv_file"] = sha256_of(path)
    others = [choice for choice in injection.choices if not choice.from_file]
    if not others:
        return hashes
    # Makers read StepE's ranking of heads.
    names = [FILES[choice.kind] for choice in others if choice.is_ranked]
    folder = paths.stepe_to_read
    if not (folder / FV_META).exists():
        first = command("stepe", f"run_id={paths.root.name} (with this command's other settings)")
        raise ArtifactError(f"There are no function vectors in {folder}. Run StepE first: {first}")
    for name in (*names, TOP_HEADS):
        if not (folder / name).exists():
            raise ArtifactError(f"{folder / name} is missing: it was removed. Run StepE with overwrite=true.")
        _verify_beside(folder / name, snapshot)
        hashes[name] = sha256_of(folder / name)
    return hashes


def vector_hashes(outputs: Mapping[str, str]) -> dict[str, str]:
    """{file: SHA-256} of the files of StepE's vectors and of their heads, selected from all its outputs."""
    names = [*dict.fromkeys(FILES.values()), TOP_HEADS]
    return {name: outputs[name] for name in names}


def read_global(folder: Path, lm: LanguageModel) -> StoredVector:
    """Read StepE's global vector, whose heads rank best by the AIE over all relations.

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    return StoredVector(read_vector(folder / FILES[GLOBAL.name], lm).values, read_json(folder / TOP_HEADS)["k"])


def read_relation_vectors(folder: Path, kind: str, lm: LanguageModel) -> dict[str, StoredVector]:
    """Read {q_id: its vector}, StepE's vectors of a kind, in float32 or in the model's precision if higher.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    dtype = torch.promote_types(lm.dtype, torch.float32)
    stored = _of_relations(folder / FILES[kind], lm.d_model)
    return {q_id: StoredVector(own["vector"].to(dtype), own["k"]) for q_id, own in stored.items()}


def stored_vectors(folder: Path, outputs: Mapping[str, str], origin: Origin) -> dict[str, Vector]:
    """Read all vectors of a StepE by their names, as they were stored.

    Args:
        folder: StepE's folder.
        outputs: {file: SHA-256} in its record.
        origin: the model and the prompts of their measurement.

    Raises:
        ArtifactError: a file is missing or was changed.
    """
    verify_outputs(folder, vector_hashes(outputs), "StepE")
    found = []
    for kind in (OWN.name, OF_AIE.name):
        for q_id, own in _of_relations(folder / FILES[kind]).items():
            heads = tuple(Head(*head) for head in own["heads"])
            name = source_name(kind, q_id)
            found.append(Vector(name, kind, q_id, own["vector"], own["k"], heads=heads, origin=origin))
    ranked = read_json(folder / TOP_HEADS)
    heads = tuple(Head(row["layer"], row["head"]) for row in ranked["global"])
    overall = read_torch(folder / FILES[GLOBAL.name])
    if flaw := flaw_of(overall):
        raise ArtifactError(f"{folder / FILES['global']} holds {flaw}, where a vector is due.")
    found.append(Vector(GLOBAL.name, GLOBAL.name, None, overall, ranked["k"], heads=heads, origin=origin))
    return {vector.name: vector for vector in found}


def _of_relations(path: Path, d_model: int | None = None) -> dict[str, RelationVector]:
    """Read {q_id: its vector, heads and k} from a file of vectors.

    Raises:
        ArtifactError: the file is missing or damaged, or its vectors have another width than `d_model`.
    """
    stored = read_torch(path)
    with reading(path):
        for q_id, own in stored.items():
            if flaw := flaw_of(own["vector"], d_model):
                raise ArtifactError(f"{path} holds {flaw} of {q_id}, where a vector is due.")
    return stored


def _verify_beside(path: Path, snapshot: dict[str, str]) -> None:
    """Refuse a vector's file that was changed or belongs to another run, if a record is in the same folder.

    Raises:
        ArtifactError: it was changed or belongs to another run; the message gives both hashes.
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
