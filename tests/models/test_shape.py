"""A model's shape: all that is known of a model without its weights."""

from pathlib import Path

import pytest
from conftest import local

from fv.config import ComputeConfig, Dtype
from fv.errors import ModelError
from fv.models.shape import load_shape

KNOWN = ("n_layers", "n_heads", "head_dim", "d_model", "vocabulary", "max_tokens", "parallel", "dtype", "spec", "name")


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2"])
def test_a_shape_knows_of_its_model_all_but_numbers(name: str, request: pytest.FixtureRequest) -> None:
    folder, whole = request.getfixturevalue(f"{name}_folder"), request.getfixturevalue(name)
    shape = load_shape(local(folder), ComputeConfig())
    assert {key: getattr(shape, key) for key in KNOWN} == {key: getattr(whole, key) for key in KNOWN}
    assert shape.encode("to be", False) == whole.encode("to be", False)
    assert shape.fingerprint.items() <= whole.fingerprint.items()


def test_a_shape_holds_no_weights(tiny_llama_folder: Path) -> None:
    shape = load_shape(local(tiny_llama_folder), ComputeConfig(dtype=Dtype.bf16, strict=False))
    assert {parameter.device.type for parameter in shape.model.parameters()} == {"meta"}


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        load_shape(local(tmp_path), ComputeConfig())
