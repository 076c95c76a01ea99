"""The injection grid, the relations a vector is evaluated on, and vectors read from a file."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fv.config import EvalScopeConfig, InjectionConfig, ScopeMode
from fv.errors import ArtifactError, ConfigError
from fv.evaluation.cells import grid, weaker_cells
from fv.evaluation.scope import scope_of
from fv.interventions.engine import Cell
from fv.models.language_model import LanguageModel
from fv.vectors.file import read_vector
from fv.vectors.values import strength
from fv.vectors.vector import Vector

KNOWN = ["antonym", "capital", "past"]
VALUES = torch.zeros(4)
GLOBAL = Vector("global", "global", None, VALUES)
QID = Vector("capital", "qid", "capital", VALUES)
AIE_QID = Vector("capital@aie", "aie_qid", "capital", VALUES)
FILE = Vector("file", "file", None, VALUES)
FILE_OF_QID = Vector("file", "file", "past", VALUES)


def scope(mode: str, qids: list[str] | None = None) -> EvalScopeConfig:
    return EvalScopeConfig(mode=ScopeMode(mode), qids=qids)


@pytest.mark.parametrize(
    ("vector", "mode", "expected"),
    [
        (GLOBAL, "auto", KNOWN),
        (QID, "auto", ["capital"]),
        (AIE_QID, "auto", ["capital"]),
        (FILE, "auto", KNOWN),
        (FILE_OF_QID, "auto", ["past"]),
        (QID, "in_domain", ["capital"]),
        (FILE_OF_QID, "in_domain", ["past"]),
        *((vector, "all_qids", KNOWN) for vector in (GLOBAL, QID, AIE_QID, FILE, FILE_OF_QID)),
    ],
)
def test_the_scope_of_a_vector(vector: Vector, mode: str, expected: list[str]) -> None:
    assert scope_of(vector, scope(mode), KNOWN) == expected


@pytest.mark.parametrize("vector", [GLOBAL, QID, AIE_QID, FILE, FILE_OF_QID])
def test_a_list_of_relations_is_the_scope_whatever_the_vector(vector: Vector) -> None:
    assert scope_of(vector, scope("qid_list", ["past", "antonym"]), KNOWN) == ["antonym", "past"]


@pytest.mark.parametrize("vector", [GLOBAL, FILE])
def test_in_domain_of_no_relation_is_an_error_that_names_the_choices(vector: Vector) -> None:
    with pytest.raises(ConfigError) as error:
        scope_of(vector, scope("in_domain"), KNOWN)
    choices = ("mode=in_domain", "all_qids", "qid_list with qids=[…]", *KNOWN)
    for part in (vector.name, *choices):
        assert part in str(error.value)


def test_unknown_relations_are_an_error_that_names_the_known() -> None:
    with pytest.raises(ConfigError, match=r"q_id colour, size has no trials.*antonym, capital, past"):
        scope_of(GLOBAL, scope("qid_list", ["size", "past", "colour"]), KNOWN)


@pytest.mark.parametrize("mode", ["auto", "in_domain"])
def test_a_vector_of_a_relation_without_trials_is_an_error_that_names_the_known(mode: str) -> None:
    with pytest.raises(ConfigError, match=r"q_id capital has no trials.*antonym, past"):
        scope_of(QID, scope(mode), ["antonym", "past"])


@pytest.mark.parametrize(("mode", "qids"), [("qid_list", None), ("auto", ["past"]), ("all_qids", ["past"])])
def test_a_scope_and_its_list_go_together(mode: str, qids: list[str] | None) -> None:
    with pytest.raises(ConfigError, match=r"go together.*Scopes are auto, in_domain, all_qids, qid_list"):
        scope(mode, qids)


def test_the_grid_runs_by_layer_then_alpha() -> None:
    injection = InjectionConfig(layer=[2, 0], alpha=[1.0, -0.5])
    assert grid(injection, 3) == [Cell(0, -0.5), Cell(0, 1.0), Cell(2, -0.5), Cell(2, 1.0)]


def test_all_layers_at_one_alpha_is_the_default_grid() -> None:
    assert grid(InjectionConfig(), 3) == [Cell(0, 1.0), Cell(1, 1.0), Cell(2, 1.0)]


def test_controls_may_choose_weaker_strengths_in_every_layer_and_of_each_sign() -> None:
    cells = grid(InjectionConfig(layer=[0, 2], alpha=[1.0, -2.0, 4.0]), 3)
    found = weaker_cells(cells, [0.5, 0.25])
    alphas = [-2.0, -1.0, -0.5, 0.25, 0.5, 1.0, 4.0]
    assert found == [Cell(layer, alpha) for layer in (0, 2) for alpha in alphas]
    assert weaker_cells(cells, []) == cells


@given(st.floats(-8, 8), st.integers(0, 3), st.floats(0.01, 1e4))
def test_alpha_is_a_factor_on_the_vector_or_a_multiple_of_the_residual_streams_norm(
    alpha: float, layer: int, norm: float
) -> None:
    vector, stream = torch.tensor([3.0, 0.0, -4.0]), torch.full((4,), 7.0)
    stream[layer] = norm
    assert strength(vector, Cell(layer, alpha), None) == alpha
    added = strength(vector, Cell(layer, alpha), stream) * vector.double()
    assert float(added.norm()) == pytest.approx(abs(alpha) * float(stream[layer]), rel=1e-6)
    assert strength(torch.zeros(3), Cell(layer, alpha), stream) == 0


def test_a_layer_out_of_range_is_an_error_that_names_the_allowed() -> None:
    with pytest.raises(ConfigError, match=r"^layer=\[1, 3\]: \[3\] out of range.*0 to 2"):
        grid(InjectionConfig(layer=[1, 3]), 3)


def test_a_vector_comes_back_as_it_was_saved(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    vector = torch.linspace(-1, 1, 40)
    torch.save(vector, tmp_path / "v.pt")
    assert torch.equal(read_vector(tmp_path / "v.pt", tiny_llama).values, vector)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(39), r"\(39,\); .* needs a \(40,\)"),
        (torch.zeros(1, 40), r"\(1, 40\); .* needs a \(40,\)"),
        ({"vector": torch.zeros(40)}, r"holds dict; .* needs a \(40,\)"),
        (torch.full((40,), float("nan")), "NaN or infinite"),
        (torch.tensor([float("-inf")] + [0.0] * 39), "NaN or infinite"),
    ],
)
def test_a_file_that_holds_no_vector_is_refused(
    tiny_llama: LanguageModel, tmp_path: Path, value: Any, message: str
) -> None:
    torch.save(value, tmp_path / "v.pt")
    with pytest.raises(ArtifactError, match=rf"v\.pt .*{message}"):
        read_vector(tmp_path / "v.pt", tiny_llama)


def test_a_missing_or_truncated_vector_is_refused(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"v\.pt is missing"):
        read_vector(tmp_path / "v.pt", tiny_llama)
    torch.save(torch.zeros(40), tmp_path / "v.pt")
    (tmp_path / "v.pt").write_bytes((tmp_path / "v.pt").read_bytes()[:300])
    with pytest.raises(ArtifactError, match=r"v\.pt is truncated"):
        read_vector(tmp_path / "v.pt", tiny_llama)
