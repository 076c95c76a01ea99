"""Options give the edits that they name, and are stored under everything that these depend on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fv.errors import ConfigError
from fv.interventions.edits import AddVector, Edits, LastTokenEdit, ReplaceResidual, SetHeads
from fv.interventions.engine import Cell
from fv.vectors.options import NO_OPTION, Fixed, Injected, LayerEdits, LayerVectors, Option, Options, Scaled
from fv.vectors.stream import Stream

N_LAYERS, WIDTH = 3, 5
VECTORS = torch.arange(1.0, 1 + N_LAYERS * WIDTH).reshape(N_LAYERS, WIDTH)
CELLS = (Cell(0, 1.0), Cell(2, -0.5))
STREAMS = [Stream(), Stream(torch.tensor([2.0, 5.0, 7.0])), Stream(torch.tensor([2.0, 5.0, 7.0]), is_unit=True)]
ONE_OF_EACH: list[Options] = [
    Fixed(SetHeads(((0, 1),), 0.0)),
    Injected(VECTORS[0], CELLS[0], CELLS),
    LayerVectors(VECTORS, CELLS[0], CELLS),
    LayerVectors(VECTORS, CELLS[0], CELLS, replaces=True),
    LayerEdits(VECTORS, 1.0, (0.5, 2.0)),
    Scaled(SetHeads(((0, 1),), 0.0), 1.0, (0.5, 1.0)),
]


def added_by(edit: LastTokenEdit) -> dict[int, Tensor]:
    """{layer: the vector that is added after it}."""
    parts = () if edit is None else edit.parts
    found = {part.layer: part.vector for part in parts if isinstance(part, AddVector)}
    assert len(found) == len(parts)
    return found


def due_strength(vector: Tensor, layer: int, alpha: float, stream: Stream) -> float:
    """Alpha, or the factor that gives the vector alpha times the norm of the stream."""
    if not stream.is_unit or stream.norm is None:
        return alpha
    return alpha * float(stream.norm[layer]) / float(vector.norm())


@pytest.mark.parametrize("stream", STREAMS)
@given(layer=st.integers(0, N_LAYERS - 1), alpha=st.sampled_from([-2.0, -0.25, 0.0, 0.5, 3.0]))
def test_strengths_are_in_the_unit_of_the_stream(stream: Stream, layer: int, alpha: float) -> None:
    at = Option(layer, alpha)
    for options, vector in (
        (Injected(VECTORS[1], CELLS[0]), VECTORS[1]),
        (LayerVectors(VECTORS, CELLS[0]), VECTORS[layer]),
    ):
        (found,) = added_by(options.edit(at, stream)).items()
        assert found[0] == layer
        torch.testing.assert_close(found[1], due_strength(vector, layer, alpha, stream) * vector)
        assert options.vector(at) is not None
    every = added_by(LayerEdits(VECTORS).edit(Option(alpha=alpha), stream))
    assert [*every] == ([*range(N_LAYERS)] if alpha else [])
    for own, vector in every.items():
        torch.testing.assert_close(vector, due_strength(VECTORS[own], own, alpha, stream) * VECTORS[own])


def test_a_share_moves_the_stream_or_the_heads_and_no_share_edits_nothing() -> None:
    replaced = LayerVectors(VECTORS, CELLS[0], replaces=True).edit(Option(2, 0.25), STREAMS[2])
    assert isinstance(replaced, ReplaceResidual) and (replaced.layer, replaced.share) == (2, 0.25)
    assert torch.equal(replaced.vector, VECTORS[2])
    heads = Scaled(SetHeads(((0, 1),), 0.0), among=(0.5,))
    half = heads.edit(heads.choices[0], Stream())
    assert isinstance(half, SetHeads) and half.share == 0.5
    assert heads.without is not None and heads.edit(heads.without, Stream()) is None


@pytest.mark.parametrize("options", ONE_OF_EACH, ids=lambda one: type(one).__name__)
def test_every_choice_has_its_edit_in_order(options: Options) -> None:
    one_by_one = [options.edit(option, STREAMS[2]) for option in options.choices]
    together = options.edits(STREAMS[2])
    assert len(together) == len(one_by_one)
    for one, other in zip(one_by_one, together, strict=True):
        assert repr(one) == repr(other)
    assert (options.without is None) == (not options.choices)


def test_only_edits_of_prompts_are_edits() -> None:
    assert [Fixed().is_edit, *(options.is_edit for options in ONE_OF_EACH)] == [False, *[True] * len(ONE_OF_EACH)]
    assert Fixed().default == NO_OPTION == Option()


def test_a_relative_norm_needs_a_measured_stream_and_a_layer() -> None:
    assert STREAMS[1].relative(10.0, 1) == 2.0
    assert STREAMS[0].relative(10.0, 1) is None and STREAMS[1].relative(10.0, None) is None


def test_whatever_changes_an_edit_or_a_choice_changes_what_results_are_stored_under() -> None:
    made: list[Callable[[], Options]] = [
        *((lambda one=one: one) for one in ONE_OF_EACH),
        lambda: Injected(VECTORS[1], CELLS[0], CELLS),
        lambda: Injected(VECTORS[0], CELLS[1], CELLS),
        lambda: Injected(VECTORS[0], CELLS[0], CELLS[:1]),
        lambda: Injected(VECTORS[0], CELLS[0]),
        lambda: Scaled(SetHeads(((0, 1),), 0.0), 1.0, (0.5,)),
        lambda: Scaled(SetHeads(((0, 1),), 1.0), 1.0, (0.5, 1.0)),
        lambda: Scaled(Edits((SetHeads(((0, 1),), 0.0), AddVector(1, VECTORS[0]))), 1.0, (0.5, 1.0)),
        lambda: Scaled(Edits((SetHeads(((0, 1),), 0.0), AddVector(1, VECTORS[1]))), 1.0, (0.5, 1.0)),
    ]
    contents = [str(make().content) for make in made]
    assert contents == [str(make().content) for make in made]
    assert len({*contents}) == len(contents)


@dataclass(frozen=True, eq=False)
class OfFunction(Options):
    """Options with a field that no file can hold."""

    made_by: Callable[[float], Any]

    def edit(self, option: Option, stream: Stream) -> LastTokenEdit:
        return None


def test_options_that_cannot_be_stored_are_refused_with_the_mend() -> None:
    with pytest.raises(ConfigError, match=r"no function can be stored: give options fields that are numbers"):
        _ = OfFunction(lambda alpha: alpha).content
