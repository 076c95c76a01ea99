"""Files of vectors and effects that hold anything else end in an error that names the file, everywhere alike."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import fv
from fv.config import TemplateConfig
from fv.data.origin import Origin
from fv.errors import ArtifactError, FvError
from fv.heads.activations import MEANS, RelationMeans
from fv.heads.effects import Effects
from fv.heads.indirect_effect import TrialEffects
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.vectors.file import load_vector, read_vector
from fv.vectors.vector import Vector

ODD = {
    "complex": torch.zeros(40, dtype=torch.complex64),
    "float8": torch.zeros(40).to(torch.float8_e4m3fn),
    "integers": torch.zeros(40, dtype=torch.int64),
    "booleans": torch.zeros(40, dtype=torch.bool),
    "NaN": torch.full((40,), torch.nan),
    "infinite": torch.tensor([torch.inf] + [0.0] * 39),
    "three-dimensional": torch.zeros(1, 1, 40),
    "empty": torch.zeros(0),
    "a scalar": torch.tensor(1.0),
    "sparse": torch.zeros(40).to_sparse(),
}
ORIGIN = Origin("tiny", {"weights_sha256": "0"}, TemplateConfig(), False)
json_values = st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=3) | st.just([[0]]) | st.just({"a": 1})


def saved(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What a safetensors file holds."""
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["about"])  # noqa: SIM118


def write(path: Path, tensors: dict[str, torch.Tensor], about: Any) -> Path:
    save_file(tensors, path, metadata={"about": json.dumps(about)})
    return path


@pytest.fixture
def vector(tmp_path: Path) -> Path:
    path = tmp_path / "v.safetensors"
    Vector("antonym", "qid", "antonym", torch.arange(40.0), 2, heads=(Head(0, 1), Head(2, 3)), origin=ORIGIN).save(path)
    return path


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    path, shape = tmp_path / "e.safetensors", (3, 4, 5)
    shapes = {"residual": (3, 40), "residual_norm": (3,), "zero_shot_residual": (3, 40)}
    means = RelationMeans.of(torch.zeros(shapes.get(name, shape)) for name in MEANS)
    found = TrialEffects(np.zeros((2, 3, 4)), np.zeros((2, 3, 4)), np.arange(2))
    Effects({"antonym": found}, {"antonym": means}, ORIGIN, pd.DataFrame({"q_id": ["antonym"]})).save(path)
    return path


@pytest.mark.parametrize("kind", ODD)
def test_odd_numbers_are_no_vector_in_any_form_of_file(
    kind: str, vector: Path, tmp_path: Path, tiny_llama: LanguageModel
) -> None:
    torch.save(ODD[kind], tmp_path / "v.pt")
    with pytest.raises(ArtifactError, match=r"v\.pt holds .* needs a \(40,\) vector"):
        read_vector(tmp_path / "v.pt", tiny_llama)
    with pytest.raises(FvError, match="values is"):
        fv.Vector.of(ODD[kind])
    if kind == "sparse":  # which safetensors does not write
        return
    write(vector, {"vector": ODD[kind]}, saved(vector)[1])
    for read in (load_vector, lambda path: read_vector(path, tiny_llama)):
        with pytest.raises(ArtifactError, match=r"v\.safetensors holds .* instead of a vector of finite numbers"):
            read(vector)


def test_a_vector_file_that_holds_more_is_refused(vector: Path) -> None:
    tensors, about = saved(vector)
    write(vector, {**tensors, "more": torch.zeros(1)}, about)
    with pytest.raises(ArtifactError, match="more than a vector: more"):
        load_vector(vector)
    write(vector, tensors, {**about, "more": 1})
    with pytest.raises(ArtifactError, match=r"has no valid metadata of a vector \(more"):
        load_vector(vector)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=json_values)
def test_a_vectors_metadata_of_other_types_are_refused_and_never_believed(
    vector: Path, data: st.DataObject, value: Any
) -> None:
    whole = vector.read_bytes()
    tensors, about = saved(vector)
    key = data.draw(st.sampled_from(["source", "kind", "source_qid", "k", "heads", "origin"]))
    try:
        write(vector, tensors, {**about, key: value})
        found = load_vector(vector)
        assert isinstance(found.source, str) and (found.k is None or (type(found.k) is int and found.k > 0))
        assert found.origin is None or found.origin == ORIGIN
    except ArtifactError as error:
        assert str(vector) in str(error) or "An origin" in str(error)
    finally:
        vector.write_bytes(whole)


@pytest.mark.parametrize("kind", ["complex", "float8", "booleans", "infinite"])
def test_odd_numbers_are_no_effects(kind: str, effects: Path) -> None:
    tensors, about = saved(effects)
    for name in tensors:
        odd = ODD[kind][:1].expand(tensors[name].shape).contiguous()
        write(effects, {**tensors, name: odd}, about)
        with pytest.raises(ArtifactError, match=r"e\.safetensors"):
            fv.load_effects(effects)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_effects_that_lack_a_part_or_have_another_shape_are_refused(effects: Path, data: st.DataObject) -> None:
    whole = effects.read_bytes()
    tensors, about = saved(effects)
    name = data.draw(st.sampled_from(["0.clean", "0.corrupted", "0.residual", "0.delta_logprob", "0.delta_p"]))
    shape = data.draw(st.lists(st.integers(1, 6), max_size=4).map(tuple))
    if shape == tuple(tensors[name].shape) or (name == "0.residual" and len(shape) == 2 and shape[0] == 3):
        return
    del tensors[name]
    if data.draw(st.booleans()):
        tensors[name] = torch.zeros(shape)
    try:
        write(effects, tensors, about)
        with pytest.raises(ArtifactError, match=r"e\.safetensors"):
            fv.load_effects(effects)
    finally:
        effects.write_bytes(whole)
