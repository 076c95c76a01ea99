"""The shapes of `tests/shapes.py` are in force in every test: a wrong one is refused where it would have passed."""

import inspect

import numpy as np
import pytest
import torch
from beartype.roar import BeartypeDoorHintViolation
from jaxtyping import Float
from shapes import SHAPES, checked
from torch import Tensor

from fv.heads import stability
from fv.heads.activations import RelationMeans
from fv.heads.stability import mean_scores
from fv.interventions.engine import Head, TargetScores
from fv.interventions.metrics import target_logprob
from fv.interventions.naive import NaiveEngine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.vectors.function_vector import vector_by_layer

wrong = pytest.raises(BeartypeDoorHintViolation)


def test_an_argument_that_would_only_seem_to_fit_is_refused() -> None:
    logits, target = torch.zeros(4, 3, 7), torch.zeros(4, 3, dtype=torch.int64)
    assert target_logprob(logits, target).shape == (4, 3)
    with wrong:
        target_logprob(logits, target[:2, :2])  # gather takes it
    with wrong:
        mean_scores([np.zeros(5)])  # without the heads' axis


def test_sizes_of_one_name_are_equal_within_a_call_and_free_between_calls() -> None:
    for layers, heads in ((2, 3), (4, 1)):
        outputs, stream = torch.zeros(layers, heads, 5), torch.zeros(layers, 9)
        means = RelationMeans(outputs, outputs, stream, stream[:, 0], outputs, stream)
        assert means.prompts is None
    with wrong:
        RelationMeans(outputs, torch.zeros(layers, heads, 4), stream, stream[:, 0], outputs, stream)
    with wrong:
        TargetScores(torch.zeros(3, dtype=torch.float64), torch.zeros(4, dtype=torch.int64), torch.zeros(3) > 0)


def test_a_number_format_is_part_of_a_shape() -> None:
    with wrong:
        TargetScores(torch.zeros(3), torch.zeros(3, dtype=torch.int64), torch.zeros(3) > 0)


def test_a_method_is_checked_against_its_model(tiny_lm: LanguageModel) -> None:
    assert NaiveEngine(tiny_lm).last_token([Prompt((1, 2), (3,))] * 2).residual.shape[0] == 2
    with wrong:
        tiny_lm.added_by(0, torch.zeros(tiny_lm.n_heads, 1))  # would be spread over the head's width


def test_a_result_of_another_shape_is_refused(tiny_lm: LanguageModel) -> None:
    def summed(lm: LanguageModel, clean_mean: Tensor, heads: list[Head]) -> Tensor:
        return vector_by_layer(lm, clean_mean, heads).sum(0)

    clean_mean = torch.zeros(tiny_lm.n_layers, tiny_lm.n_heads, tiny_lm.head_dim)
    assert checked(summed, {"return": Float[Tensor, "{lm.d_model}"]})(tiny_lm, clean_mean, []).ndim == 1
    with wrong:
        checked(summed, {"return": Float[Tensor, "{lm.n_layers} {lm.d_model}"]})(tiny_lm, clean_mean, [])


def test_no_module_of_the_library_keeps_an_unchecked_function() -> None:
    assert stability.mean_scores is mean_scores
    assert mean_scores not in SHAPES and inspect.unwrap(mean_scores) in SHAPES
