"""In a stream of great norm that tolerates few directions, no contrast is large because a control does harm."""

import copy
import dataclasses
import string
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

import fv
from fv.data.prompts import prompt_of
from fv.interventions.edits import AddVector, LastTokenEdit, ReplaceResidual
from fv.interventions.engines import make_engine
from fv.interventions.naive import NaiveEngine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.vectors.controls import isotropic_vectors

NORM = 10_000.0
ALPHAS = [1.0, 2.0, 4.0, 8.0]
ANSWERS = ["yes", "no", "red", "blue"]
PAIRS = [(f"{letter}{letter}", ANSWERS[i % 4]) for i, letter in enumerate(string.ascii_lowercase[:24])]


@pytest.fixture(scope="module")
def along(tiny_llama: LanguageModel) -> Tensor:
    """Two directions at a right angle, (2, d_model): the stream's own, and one that speaks for the answers."""
    drawn = torch.randn(tiny_llama.d_model, 2, generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(drawn).Q.T.contiguous()


@pytest.fixture(scope="module")
def lm(tiny_llama: LanguageModel, along: Tensor) -> LanguageModel:
    """A model whose stream has one direction and a norm of ten thousand, along which the answers' logits are read."""
    model = copy.deepcopy(tiny_llama.model)
    tokens = [tiny_llama.encode(f" {answer}", False)[0] for answer in ANSWERS]
    with torch.no_grad():
        model.model.embed_tokens.weight += NORM * along[0]
        model.lm_head.weight -= torch.outer(model.lm_head.weight @ along[0], along[0])
        model.lm_head.weight[tokens] = 1.2 * along[0] + along[1]
    return dataclasses.replace(tiny_llama, model=model)


@pytest.fixture(scope="module")
def trials(lm: LanguageModel) -> fv.Trials:
    return fv.sample_trials({"planted": PAIRS}, lm, demos=2, fit=2, held_out=12)


def test_no_control_does_harm_on_dev_trials_and_none_inflates_a_contrast(
    lm: LanguageModel, along: Tensor, trials: fv.Trials
) -> None:
    effects, vector = fv.indirect_effects(lm, trials, compute=fv.Compute(progress=False)), fv.Vector.of(NORM * along[1])
    result = fv.evaluate(
        lm, vector, trials, alphas=ALPHAS, controls=["random_vector", "layer_mean"], effects=effects, n_unrelated=0
    )
    dev = set(result.rows.loc[result.rows["part"] == "dev", "trial_id"])
    prompts = [prompt_of(lm, trials.snapshot, t, "zero_shot") for t in trials.snapshot.trials if t.trial_id in dev]
    unedited = mean_logprob(lm, prompts, None)
    conditions = result.trials.drop_duplicates(["condition", "draw"]).set_index(["condition", "draw"])
    drawn = isotropic_vectors(vector, 20, result.seed)
    # At the strengths of the vector every one of them loses nats, in whichever layer.
    cells = [(layer, alpha) for layer in range(lm.n_layers) for alpha in ALPHAS]
    strong = [AddVector(layer, alpha * values) for values in drawn for layer, alpha in cells]
    means = make_engine(lm, "auto", 512).target_logprobs(prompts, strong).mean(0)  # (n_vectors * n_cells,)
    assert (means < unedited - 1).all()
    for draw, values in enumerate(drawn):
        assert mean_logprob(lm, prompts, added(conditions, "random_vector", draw, values)) >= unedited - 1e-5
    mean, difference = effects.means["planted"].residual, effects.means["planted"].difference
    assert difference is not None
    where: Any = conditions.loc[("layer_mean_replaced", 0), :]
    replaced = ReplaceResidual(int(where["layer"]), mean[int(where["layer"])], float(where["alpha"]))
    assert mean_logprob(lm, prompts, replaced) >= unedited - 1e-5
    where = conditions.loc[("layer_mean_added", 0), :]
    layer_mean = added(conditions, "layer_mean_added", 0, difference[int(where["layer"])])
    assert mean_logprob(lm, prompts, layer_mean) >= unedited - 1e-5
    # The vector itself gains, and beyond a control it gains no more than that; about so on test trials, too.
    gain = result.cells["mean_delta_logprob"].item()
    assert gain > 1
    contrasts = result.tables["contrasts"]
    beyond = contrasts[(contrasts["metric"] == "logprob") & (contrasts["subset"] == "all")].set_index("minus")["mean"]
    assert set(beyond.index) >= {"random_vector", "layer_mean_added", "layer_mean_replaced"}
    assert (beyond.drop("few_shot") <= gain + 0.05).all()


def added(conditions: pd.DataFrame, name: str, draw: int, values: Tensor) -> AddVector:
    where: Any = conditions.loc[(name, draw), :]
    return AddVector(int(where["layer"]), float(where["alpha"]) * values)


def mean_logprob(lm: LanguageModel, prompts: list[Prompt], edit: LastTokenEdit) -> float:
    return float(NaiveEngine(lm).target_logprobs(prompts, [edit]).mean())
