"""Clean means: the average, its file, and files that are not one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.errors import ArtifactError, ConfigError
from fv.heads.activations import RelationMeans, mean_of_means, mean_over_prompts
from fv.models.site import Site, TokenClass
from fv.runs.mean_files import read_clean_mean, write_clean_mean


def test_the_mean_runs_over_prompts() -> None:
    one = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])  # 1 layer, 2 heads, 2 wide
    two = torch.tensor([[[3.0, 2.0], [-3.0, 0.0]]])
    three = torch.tensor([[[5.0, 2.0], [3.0, 2.0]]])
    assert mean_over_prompts(torch.stack([one, two, three])).tolist() == [[[3.0, 2.0], [1.0, 2.0]]]


def test_the_mean_is_taken_in_float64() -> None:
    values = torch.tensor([1e8, 1.0, -1e8, 0.0]).view(4, 1, 1, 1)
    assert float(mean_over_prompts(values)) == 0.25  # in float32 the 1 would be lost


@pytest.mark.parametrize(
    ("given_as", "kept_as"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_the_mean_is_kept_in_float32_or_wider(given_as: torch.dtype, kept_as: torch.dtype) -> None:
    assert mean_over_prompts(torch.ones(2, 1, 1, 1, dtype=given_as)).dtype == kept_as


def test_relations_weigh_the_same_whatever_their_number_of_prompts() -> None:
    many = mean_over_prompts(torch.full((9, 1, 1, 1), 1.0))
    few = mean_over_prompts(torch.full((1, 1, 1, 1), 4.0))
    assert float(mean_of_means([many, few])) == 2.5


@settings(max_examples=20, deadline=None)
@given(shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)), seed=st.integers(0, 1000))
def test_a_clean_mean_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int, int], seed: int
) -> None:
    path = tmp_path_factory.mktemp("mean") / "global_clean_mean.pt"
    mean = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    write_clean_mean(path, mean, d_model=40)
    assert torch.equal(read_clean_mean(path), mean)


def test_the_file_holds_the_keys_of_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "global_clean_mean.pt"
    write_clean_mean(path, torch.zeros(3, 4, 12), d_model=40)
    value = torch.load(path, weights_only=True)
    assert {key: value[key] for key in value if key != "clean_mean"} == {
        "slot_q": 0,
        "n_heads": 4,
        "head_dim": 12,
        "resid_dim": 40,
    }
    assert value["clean_mean"].shape == (3, 4, 12)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none\.pt is missing"):
        read_clean_mean(tmp_path / "none.pt")


@pytest.mark.parametrize("kept", [0, 100, 900])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "mean.pt"
    write_clean_mean(path, torch.zeros(3, 4, 12), d_model=40)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ArtifactError, match=r"mean\.pt is truncated"):
        read_clean_mean(path)


MEAN = torch.zeros(3, 4, 12)


@pytest.mark.parametrize(
    "value",
    [
        MEAN,
        {"n_heads": 4, "head_dim": 12},
        {"clean_mean": [0.0], "n_heads": 4, "head_dim": 12},
        {"clean_mean": MEAN[0], "n_heads": 4, "head_dim": 12},
        {"clean_mean": MEAN, "n_heads": 4, "head_dim": 10},
        {"clean_mean": MEAN, "n_heads": 3, "head_dim": 12},
        {"clean_mean": MEAN},
    ],
    ids=["tensor", "no_mean", "list", "two_axes", "other_width", "other_heads", "no_widths"],
)
def test_a_file_that_holds_no_clean_mean_is_refused(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "other.pt")
    with pytest.raises(ArtifactError, match=r"other\.pt does not hold a .* clean mean"):
        read_clean_mean(tmp_path / "other.pt")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"clean_mean": Path("x")}, tmp_path / "pickled.pt")
    with pytest.raises(ArtifactError, match=r"pickled\.pt"):
        read_clean_mean(tmp_path / "pickled.pt")


def test_means_are_read_at_a_site() -> None:
    heads, stream = torch.arange(24.0).view(2, 3, 4), torch.arange(10.0).view(2, 5)
    means = RelationMeans(heads, -heads, stream, stream[:, 0], heads, stream)
    assert means.at(Site(layer=1, head=2)).tolist() == heads[1, 2].tolist()
    assert means.at(Site(layer=1)).tolist() == stream[1].tolist()
    with pytest.raises(ConfigError, match="read at last tokens, and Site"):
        means.at(Site(token_class=TokenClass.query, layer=1))
    for outside in (Site(layer=2), Site(layer=0, head=3)):
        with pytest.raises(ConfigError, match="outside the model"):
            means.at(outside)


@pytest.mark.parametrize("place", [{"layer": -1}, {"layer": 0.5}, {"layer": 0, "head": -1}, {"layer": True}])
def test_a_site_is_counted_from_0(place: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be a whole number, counted from 0"):
        Site(**place)
