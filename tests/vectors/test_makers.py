"""Makers of vectors: each gives what its formula says, from hidden states that plain hooks read."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from families import tiny, tiny_tokenizer
from maker_trials import fit_trials, head_outputs_of, made_by, streams_of
from torch import Tensor

import fv
from fv.errors import ConfigError
from fv.models.language_model import LanguageModel
from fv.vectors.maker import FitTrials
from fv.vectors.makers import Maker, maker_classes, makers_of
from fv.vectors.options import Option
from fv.vectors.stream import Stream

STREAM = Stream()


@pytest.fixture(scope="module")
def of(tiny_llama: LanguageModel) -> FitTrials:
    return fit_trials(tiny_llama)


def maker(name: str, **settings: object) -> Maker:
    return makers_of([name], {name: settings})[name]


def texts(of: FitTrials, kind: str) -> list[str]:
    return [trial.prompt(kind) for trial in of.snapshot.of(of.q_id, "fit")]


def near(found: Tensor, due: Tensor) -> None:
    torch.testing.assert_close(found.double(), due.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", ["own", "aie"])
def test_the_function_vector_is_that_of_the_library(of: FitTrials, heads: str) -> None:
    found = made_by(maker("function_vector", heads=heads, k=3), of)
    by = of.effects["antonym"] if heads == "own" else of.effects.mean()
    due = fv.function_vector(of.lm, of.effects["antonym"], heads=by.top(3))
    assert torch.equal(found.tensors["vector"], due.values)
    assert found.n_fitted == 0
    assert [tuple(option) for option in found.options.choices] == [tuple(cell) for cell in of.cells]


def test_named_heads_and_the_global_vector_are_sums_of_heads(of: FitTrials) -> None:
    named = made_by(maker("named_heads", heads=[(0, 1), (2, 0)]), of)
    due = fv.function_vector(of.lm, of.effects["antonym"], heads=[fv.Head(0, 1), fv.Head(2, 0)])
    assert torch.equal(named.tensors["vector"], due.values)
    overall = made_by(maker("global_vector", k=2), of)
    assert torch.equal(overall.tensors["vector"], fv.function_vector(of.lm, of.effects.mean(), k=2).values)


def test_a_file_gives_the_vector_that_it_holds(of: FitTrials, tmp_path: object) -> None:
    path = f"{tmp_path}/v.safetensors"
    vector = fv.function_vector(of.lm, of.effects["antonym"], k=2)
    vector.save(path)
    assert torch.equal(made_by(maker("file", path=path), of).tensors["vector"], vector.values)


def test_differences_of_means_are_those_of_plain_forwards(of: FitTrials) -> None:
    clean, without = (streams_of(of.lm, texts(of, kind)).double().mean(0) for kind in ("clean", "zero_shot"))
    found = made_by(maker("mean_difference"), of)
    near(found.tensors["vectors"], clean - without)
    edit = found.options.edit(Option(1, 0.5), STREAM)
    assert isinstance(edit, fv.AddVector)
    near(edit.vector, 0.5 * (clean - without)[1])
    everywhere = made_by(maker("all_mean_differences", alphas=[0.25]), of)
    (option,) = everywhere.options.choices
    edit = everywhere.options.edit(option, STREAM)
    assert edit is not None
    added = [part for part in edit.parts if isinstance(part, fv.AddVector)]
    assert [part.layer for part in added] == [0, 1, 2]
    near(torch.stack([part.vector for part in added]), 0.25 * (clean - without))


def test_a_layer_mean_replaces_the_stream_or_is_added_and_may_ask_a_dummy_query(of: FitTrials) -> None:
    clean = streams_of(of.lm, texts(of, "clean")).double().mean(0)
    replaced = made_by(maker("layer_mean"), of)
    near(replaced.tensors["vectors"], clean)
    assert isinstance(replaced.options.edit(Option(1, 0.5), STREAM), fv.ReplaceResidual)
    assert isinstance(made_by(maker("layer_mean", use="added"), of).options.edit(Option(1, 0.5), STREAM), fv.AddVector)
    trials = of.snapshot.of(of.q_id, "fit")
    asked = [
        trial.prompt("clean").replace(f"Q: {trial.query.exA}\nA:", f"Q: {other.query.exA}\nA:")
        for trial, other in zip(trials, [*trials[1:], trials[0]], strict=True)
    ]
    dummy = made_by(maker("layer_mean", query="dummy"), of)
    near(dummy.tensors["vectors"], streams_of(of.lm, asked).double().mean(0))


def test_heads_at_their_own_layers_get_their_differences(of: FitTrials) -> None:
    clean, without, wrong = (
        head_outputs_of(of.lm, texts(of, kind)).double().mean(0) for kind in ("clean", "zero_shot", "corrupted")
    )
    heads = sorted(of.effects["antonym"].top(3))
    rows, columns = map(list, zip(*heads, strict=True))
    for reference, due in (("zero_shot", clean - without), ("corrupted", clean - wrong), ("none", clean)):
        found = made_by(maker("distributed_heads", k=3, reference=reference), of)
        near(found.tensors["added"], due[rows, columns])
        assert found.tensors["heads"].tolist() == [list(head) for head in heads]
    set_there = made_by(maker("set_heads", k=3), of)
    near(set_there.tensors["means"], clean[rows, columns])
    edit = set_there.options.edit(Option(alpha=0.5), STREAM)
    assert isinstance(edit, fv.SetHeads)
    assert edit.share == 0.5


def test_an_in_context_vector_is_the_first_component_of_the_differences_of_pairs(of: FitTrials) -> None:
    pairs = list(dict.fromkeys(trial.query for trial in of.snapshot.of(of.q_id, "fit")))
    inputs, outputs = (streams_of(of.lm, side).double().flatten(1) for side in zip(*pairs, strict=True))
    change = (outputs - inputs).numpy()
    _, _, components = np.linalg.svd(change - change.mean(0), full_matrices=False)
    due = components[0] * np.sign(components[0] @ change.mean(0))
    due = due.reshape(of.lm.n_layers, of.lm.d_model)
    due /= np.linalg.norm(due, axis=1, keepdims=True)
    found = made_by(maker("in_context_vector"), of)
    near(found.tensors["directions"], torch.from_numpy(due))
    assert found.n_fitted == due.size


def test_a_state_vector_extrapolates_over_the_demonstrations(of: FitTrials) -> None:
    trials = of.snapshot.of(of.q_id, "fit", 2)
    states = []
    for n in range(3):
        asked = [
            "".join(f"Q: {a}\nA: {b}\n\n" for a, b in trial.demos[:n]) + f"Q: {(*trial.demos, trial.query)[n].exA}\nA:"
            for trial in trials
        ]
        states.append(head_outputs_of(of.lm, asked).double().mean(0))
    momentum = 0.5 * (states[1] - states[0]) + (states[2] - states[1])
    found = made_by(maker("state_vector", last=2, momentum=0.5, step=0.1, n_prompts=2), of)
    near(found.tensors["outputs"], (states[1] + states[2]) / 2 + 0.1 * momentum)
    edit = found.options.edit(Option(1, 1.0), STREAM)
    assert isinstance(edit, fv.SetHeads)
    assert {*edit.heads} == {(layer, head) for layer in (0, 1) for head in range(of.lm.n_heads)}


def test_heads_by_least_squares_minimise_what_they_say(of: FitTrials) -> None:
    found, lm, layer = made_by(maker("weighted_heads", ridge=0.2), of), of.lm, 1
    clean, without = (head_outputs_of(lm, texts(of, kind)).double().mean(0) for kind in ("clean", "zero_shot"))
    weights = [lm.out_weight(i).detach().double() for i in range(layer + 1)]
    each = torch.stack(
        [
            weights[i][:, lm.head_slice(head)] @ (clean - without)[i, head]
            for i in range(layer + 1)
            for head in range(lm.n_heads)
        ]
    )
    due = (streams_of(lm, texts(of, "clean")) - streams_of(lm, texts(of, "zero_shot"))).double().mean(0)[layer]

    def loss(w: Tensor) -> Tensor:
        pull = 0.2 * each.square().sum(1).mean()
        return (due - w @ each).square().sum() + pull * (w - 1).square().sum()

    w = found.tensors["weights"][layer, : len(each)].double().requires_grad_()
    (slope,) = torch.autograd.grad(loss(w), w)
    assert slope.abs().max() < 1e-3 * loss(torch.ones_like(w))
    near(found.tensors["vectors"][layer], w.detach() @ each)


def test_a_linear_vector_is_ridge_regression_of_the_shift_on_the_stream(of: FitTrials) -> None:
    found, layer = made_by(maker("linear_vector", ridge=0.5), of), 2
    clean, without = (streams_of(of.lm, texts(of, kind)).double()[:, layer] for kind in ("clean", "zero_shot"))
    shift, centred = clean - without, without - without.mean(0)
    level = 0.5 * centred.square().sum(1).mean()
    due = (shift - shift.mean(0)).T @ centred @ torch.linalg.inv(centred.T @ centred + level * torch.eye(of.lm.d_model))
    h = torch.linspace(-1, 1, of.lm.d_model, dtype=torch.float64)
    edit = found.options.edit(Option(layer, 1.0), STREAM)
    assert edit is not None
    moved = edit.change(edit.places[0], h.float()[None, None])[0, 0]
    torch.testing.assert_close(moved.double(), h + due @ (h - without.mean(0)) + shift.mean(0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [name for name, kind in maker_classes().items() if not kind.required])
def test_a_maker_sees_no_held_out_trial_and_repeats_its_bytes(tiny_llama: LanguageModel, name: str) -> None:
    of = fit_trials(tiny_llama)
    snapshot = of.snapshot.model_copy(update={"trials": [t for t in of.snapshot.trials if t.split == "fit"]})
    blind = FitTrials(of.lm, of.engine, snapshot, of.q_id, of.effects, of.ranking, of.cells, of.shares, of.seed)
    once, again = (made_by(maker(name), each).tensors for each in (of, blind))
    assert once.keys() == again.keys()
    assert all(torch.equal(once[part], again[part]) for part in once)


@pytest.mark.parametrize("name", maker_classes())
def test_a_maker_says_what_it_is(name: str) -> None:
    kind = maker_classes()[name]
    assert kind.label
    assert kind.source or name == "file"
    assert len((kind.__doc__ or "").split()) > 8


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (["mean_diference"], {}, "no maker called 'mean_diference'. Near it: mean_difference"),
        (["named_heads"], {}, "The maker named_heads needs named_heads.heads"),
        (["file"], {}, "The maker file needs file.path"),
        (["mean_difference"], {"layer_mean": {}}, "There is no maker among those named called 'layer_mean'"),
        (["linear_vector"], {"linear_vector": {"ridge": 0}}, "linear_vector.ridge=0.0 must be above 0"),
        (["layer_mean"], {"layer_mean": {"use": "ad"}}, "layer_mean.use='ad'"),
    ],
)
def test_an_impossible_maker_is_refused(
    names: Sequence[str], settings: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(
        ConfigError, match=message if "layer_mean" not in settings or names != ["layer_mean"] else "use="
    ):
        makers_of(names, settings)


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "mixtral"])
@pytest.mark.slow
def test_makers_work_with_other_families(family: str) -> None:
    of = fit_trials(fv.wrap(tiny(family).model, tiny_tokenizer(), selfcheck=False))
    for name, own in makers_of([n for n, kind in maker_classes().items() if not kind.required]).items():
        result = made_by(own, of)
        for option in [*result.options.choices][:2]:
            edit = result.options.edit(option, Stream(of.means.residual_norm))
            found = of.engine.target_logprobs(of.prompts("zero_shot"), [None, edit])
            assert found.isfinite().all(), name
