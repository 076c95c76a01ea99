"""Random prompts, values and vectors for the engines, and how two engines are compared."""

from typing import Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fv.interventions.engine import Cell, Head, LastToken, PatchScores, TargetScores
from fv.interventions.naive import NaiveEngine
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt

TOLERANCE = 2e-5
MAX_ROWS = [2, 3, 5, 17, 4096]

few = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**31)
lengths_of_prompts = st.lists(st.integers(1, 14), min_size=1, max_size=4)


def prompts_of(lm: LanguageModel, lengths: list[int], seed: int = 0) -> list[Prompt]:
    """Random prompts of the given numbers of tokens, with random targets."""
    rng = torch.Generator().manual_seed(seed)
    vocabulary = lm.unembedding.weight.shape[0]
    drawn = [torch.randint(0, vocabulary, (length + 1,), generator=rng).tolist() for length in lengths]
    return [Prompt(tuple(ids[:-1]), (ids[-1],)) for ids in drawn]


def values_of(lm: LanguageModel, seed: int = 0) -> Tensor:
    """A random clean mean, (n_layers, n_heads, head_dim)."""
    return torch.randn(lm.n_layers, lm.n_heads, lm.head_dim, generator=torch.Generator().manual_seed(seed))


def vectors_of(lm: LanguageModel, count: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(count, lm.d_model, generator=torch.Generator().manual_seed(seed))


def for_each(prompts: list[Prompt], vectors: Tensor) -> Tensor:
    """The same vectors for every prompt: (n_prompts, n_vectors, d_model)."""
    return vectors.expand(len(prompts), -1, -1)


def all_heads(lm: LanguageModel) -> list[Head]:
    return [Head(layer, head) for layer in range(lm.n_layers) for head in range(lm.n_heads)]


def all_cells(lm: LanguageModel, alphas: tuple[float, ...] = (-1.5, 0.5)) -> list[Cell]:
    return [Cell(layer, alpha) for layer in range(lm.n_layers) for alpha in alphas]


def assert_close(found: TargetScores, expected: TargetScores, tolerance: float = TOLERANCE) -> None:
    assert found.logprob.shape == expected.logprob.shape
    assert (found.logprob - expected.logprob).abs().max() <= tolerance
    # Tokens that are rated alike may swap places within the tolerance.
    assert (found.rank - expected.rank).abs().max() <= 3


def assert_last_tokens_close(found: LastToken, expected: LastToken, tolerance: float = TOLERANCE) -> None:
    assert_close(found.scores, expected.scores, tolerance)
    for values, due in ((found.head_outputs, expected.head_outputs), (found.residual, expected.residual)):
        # The residual stream of a real model is in the hundreds.
        torch.testing.assert_close(values, due, rtol=0, atol=tolerance * max(1.0, float(due.abs().max())))


def assert_bit_equal(found: TargetScores, expected: TargetScores) -> None:
    assert torch.equal(found.logprob, expected.logprob)
    assert torch.equal(found.rank, expected.rank)


def assert_patches_close(found: PatchScores, expected: PatchScores, tolerance: float = TOLERANCE) -> None:
    assert_last_tokens_close(found.unedited, expected.unedited, tolerance)
    torch.testing.assert_close(found.unpatched, expected.unpatched, rtol=0, atol=tolerance)
    torch.testing.assert_close(found.patched, expected.patched, rtol=0, atol=tolerance)


def assert_patches_bit_equal(found: PatchScores, expected: PatchScores) -> None:
    assert_bit_equal(found.unedited.scores, expected.unedited.scores)
    assert torch.equal(found.unedited.head_outputs, expected.unedited.head_outputs)
    assert torch.equal(found.unpatched, expected.unpatched)
    assert torch.equal(found.patched, expected.patched)


def assert_patching_agrees(
    lm: LanguageModel, prompts: list[Prompt], max_rows: int, seed: int = 0, tolerance: float = TOLERANCE
) -> None:
    values, heads = values_of(lm, seed), all_heads(lm)
    expected = NaiveEngine(lm).patch_heads(prompts, values, heads)
    assert_patches_close(SharedPrefixEngine(lm, max_rows).patch_heads(prompts, values, heads), expected, tolerance)
    assert (expected.patched - expected.unpatched).abs().max() > 0.01  # there is something to get wrong


def assert_injecting_agrees(
    lm: LanguageModel, prompts: list[Prompt], max_rows: int, seed: int = 0, tolerance: float = TOLERANCE
) -> None:
    vectors, cells = vectors_of(lm, seed=seed), all_cells(lm)
    naive_before, naive_after = NaiveEngine(lm).inject(prompts, for_each(prompts, vectors), cells)
    before, after = SharedPrefixEngine(lm, max_rows).inject(prompts, for_each(prompts, vectors), cells)
    assert_close(before, naive_before, tolerance)
    assert_close(after, naive_after, tolerance)
    assert (naive_after.logprob - naive_before.logprob[:, None, None]).abs().max() > 0.01


class KeepFloat64(TorchFunctionMode):
    """Under it a model asked for float64 is in float64 throughout.

    Transformers rounds norms and softmax to float32 whatever the dtype of the weights, which would hide an error
    below 1e-6; here every such request means float64.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        wide = {torch.float32: torch.float64}
        args = [wide.get(a, a) if isinstance(a, torch.dtype) else a for a in args]
        kwargs = {k: wide.get(v, v) if isinstance(v, torch.dtype) else v for k, v in (kwargs or {}).items()}
        return args[0].double() if func is Tensor.float else func(*args, **kwargs)
