"""Controls and baselines choose on dev trials where they do best, and never where they do harm."""

import pytest
import torch
from sweep_checks import prompts_of
from torch import Tensor

from fv.evaluation.cells import weaker_cells
from fv.evaluation.dev_choice import DevChoice
from fv.interventions.edits import AddVector, ReplaceResidual
from fv.interventions.engine import Cell
from fv.interventions.engines import make_engine
from fv.interventions.naive import NaiveEngine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.vectors.options import Injected, LayerVectors, Option, Options
from fv.vectors.stream import Stream

CELLS = [Cell(layer, alpha) for layer in (0, 1) for alpha in (1.0, 2.0)]


def said_prompts(lm: LanguageModel) -> list[Prompt]:
    """Prompts that the model already continues as it should: whatever disturbs the stream does harm."""
    ids = [p.token_ids for p in prompts_of(lm, [4, 6, 6])]
    with torch.no_grad():
        return [Prompt(one, (int(lm.model(torch.tensor([one])).logits[0, -1].argmax()),)) for one in ids]


def mean_logprob(lm: LanguageModel, prompts: list[Prompt], edit: AddVector | ReplaceResidual | None) -> float:
    return float(NaiveEngine(lm).target_logprobs(prompts, [edit]).mean())


def choice_of(lm: LanguageModel, prompts: list[Prompt], unit: Tensor | None = None) -> DevChoice:
    return DevChoice(make_engine(lm, "auto", 512), {"zero_shot": prompts}, Stream(unit, unit is not None))


def injected(vectors: Tensor, shares: list[float]) -> list[Options]:
    return [Injected(vector, CELLS[0], weaker_cells(CELLS, shares)) for vector in vectors]


def of_layers(vectors: Tensor, shares: list[float]) -> list[Options]:
    """Layer vectors that are added, and that replace the stream."""
    parts = [Cell(layer, share) for layer in (0, 1) for share in (*shares, 1.0)]
    added = LayerVectors(vectors, CELLS[0], weaker_cells(CELLS, shares))
    return [added, LayerVectors(vectors, CELLS[0], parts, replaces=True)]


def cell_of(option: Option) -> Cell:
    assert option.layer is not None and option.alpha is not None
    return Cell(option.layer, option.alpha)


@pytest.fixture
def large_vectors(tiny_llama: LanguageModel) -> Tensor:
    """As a stream that tolerates few directions meets random ones: far longer than the stream itself."""
    return 30 * torch.randn(5, tiny_llama.d_model, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shares", [[], [0.25, 0.0625]])
def test_a_control_that_does_harm_at_every_strength_is_not_injected(
    tiny_llama: LanguageModel, large_vectors: Tensor, shares: list[float]
) -> None:
    prompts = said_prompts(tiny_llama)
    unedited = mean_logprob(tiny_llama, prompts, None)
    # The strengths of the vector alone would have the controls lose, and the vector win by it.
    for vector in large_vectors:
        assert (
            max(mean_logprob(tiny_llama, prompts, AddVector(c.layer, c.alpha * vector)) for c in CELLS) < unedited - 1
        )
    found = [*map(cell_of, choice_of(tiny_llama, prompts).best(injected(large_vectors, shares)))]
    for vector, cell in zip(large_vectors, found, strict=True):
        after = mean_logprob(tiny_llama, prompts, AddVector(cell.layer, cell.alpha * vector))
        assert after >= unedited - 1e-5
        if cell.alpha:
            assert cell in weaker_cells(CELLS, shares) and cell not in CELLS
    assert shares or found == [Cell(0, 0.0)] * 5


def test_a_control_takes_the_best_of_all_its_cells(tiny_llama: LanguageModel) -> None:
    prompts = [Prompt(p.token_ids, (77 + i,)) for i, p in enumerate(prompts_of(tiny_llama, [4, 6, 6]))]
    vectors = torch.randn(4, tiny_llama.d_model, generator=torch.Generator().manual_seed(1))
    shares = [0.25, 0.0625]
    cells = weaker_cells(CELLS, shares)
    chosen = map(cell_of, choice_of(tiny_llama, prompts).best(injected(vectors, shares)))
    for vector, found in zip(vectors, chosen, strict=True):
        means = {c: mean_logprob(tiny_llama, prompts, AddVector(c.layer, c.alpha * vector)) for c in cells}
        best = max([*means.values(), mean_logprob(tiny_llama, prompts, None)])
        got = mean_logprob(tiny_llama, prompts, AddVector(found.layer, found.alpha * vector))
        assert got == pytest.approx(best, abs=2e-5)


@pytest.mark.parametrize("in_residual_unit", [False, True])
def test_layer_means_take_the_best_layer_strength_and_share(tiny_llama: LanguageModel, in_residual_unit: bool) -> None:
    prompts = [Prompt(p.token_ids, (77 + i,)) for i, p in enumerate(prompts_of(tiny_llama, [4, 6, 6]))]
    residual = 3 * torch.randn(tiny_llama.n_layers, tiny_llama.d_model, generator=torch.Generator().manual_seed(2))
    unit = torch.tensor([2.0, 5.0, 1.0]) if in_residual_unit else None
    added, replaced = map(cell_of, choice_of(tiny_llama, prompts, unit).best(of_layers(residual, [0.25])))

    def add(cell: Cell) -> float:
        length = 1.0 if unit is None else float(unit[cell.layer] / residual[cell.layer].norm())
        return mean_logprob(tiny_llama, prompts, AddVector(cell.layer, cell.alpha * length * residual[cell.layer]))

    def replace(cell: Cell) -> float:
        return mean_logprob(tiny_llama, prompts, ReplaceResidual(cell.layer, residual[cell.layer], cell.alpha))

    unedited = mean_logprob(tiny_llama, prompts, None)
    assert add(added) == pytest.approx(max([unedited, *map(add, weaker_cells(CELLS, [0.25]))]), abs=2e-5)
    shares = [Cell(layer, share) for layer in (0, 1) for share in (0.25, 1.0)]
    assert replace(replaced) == pytest.approx(max([unedited, *map(replace, shares)]), abs=2e-5)


def test_a_layer_mean_that_does_harm_is_left_out(tiny_llama: LanguageModel, large_vectors: Tensor) -> None:
    choice = choice_of(tiny_llama, said_prompts(tiny_llama))
    assert choice.best(of_layers(large_vectors[: tiny_llama.n_layers], [])) == [Option(0, 0.0)] * 2


def test_each_kind_of_prompt_has_cells_of_its_own(tiny_llama: LanguageModel) -> None:
    kinds = {
        kind: [Prompt(p.token_ids, (77 + i,)) for i, p in enumerate(prompts_of(tiny_llama, lengths))]
        for kind, lengths in (("zero_shot", [4, 5]), ("corrupted", [9, 11]))
    }
    choice = DevChoice(make_engine(tiny_llama, "auto", 512), kinds, Stream())
    vectors = torch.randn(12, tiny_llama.d_model, generator=torch.Generator().manual_seed(3))
    found = {}
    for kind, prompts in kinds.items():
        found[kind] = [*map(cell_of, choice.best(injected(vectors, [0.25]), kind))]
        unedited = mean_logprob(tiny_llama, prompts, None)
        for vector, cell in zip(vectors, found[kind], strict=True):
            edits = [AddVector(c.layer, c.alpha * vector) for c in weaker_cells(CELLS, [0.25])]
            means = [mean_logprob(tiny_llama, prompts, edit) for edit in edits]
            got = mean_logprob(tiny_llama, prompts, AddVector(cell.layer, cell.alpha * vector))
            assert got == pytest.approx(max([*means, unedited]), abs=2e-5)
    assert found["zero_shot"] == [*map(cell_of, choice.best(injected(vectors, [0.25])))] != found["corrupted"]
