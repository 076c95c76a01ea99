"""Trained edits: gradients against plain autograd, engines against the naive one, a known optimum, and the stop."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import torch
from families import FAMILIES, tiny, tiny_editable
from sweep_checks import KeepFloat64, prompts_of, values_of
from torch import Tensor

from fv.errors import ConfigError, ModelError, NotFiniteError
from fv.interventions.edit import Edit
from fv.interventions.edits import AddHeads, AddKeepingNorm, AddLinear, AddVector, Edits, Mix, ReplaceResidual, SetHeads
from fv.interventions.engines import make_engine
from fv.interventions.naive import NaiveEngine
from fv.interventions.place import Part, Place
from fv.interventions.training import Descent, EditOf, Parameters, TrainingEngine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt

Case = tuple[dict[str, Tensor], EditOf]


class Negated(Edit):
    """An edit from outside, without `change_rows`, whose gradient needs the rows."""

    def __init__(self, layer: int, factor: Tensor) -> None:
        self.layer, self.factor = layer, factor

    @property
    def places(self) -> tuple[Place, ...]:
        return (Place(self.layer, Part.residual),)

    def change(self, place: Place, hidden: Tensor) -> Tensor:
        return -hidden * self.factor.to(hidden)


def cases(lm: LanguageModel) -> dict[str, Case]:
    """Edits of every kind, with their parameters away from zero."""
    rng = torch.Generator().manual_seed(3)
    vector = torch.randn(lm.d_model, generator=rng).to(lm.dtype)
    all_layers = torch.randn(lm.n_layers, lm.d_model, generator=rng).to(lm.dtype)
    heads = tuple((layer, head) for layer in range(lm.n_layers) for head in range(lm.n_heads))
    gates, means = torch.randn(len(heads), generator=rng).to(lm.dtype), values_of(lm).to(lm.dtype)
    found: dict[str, Case] = {
        "vector": ({"v": vector}, lambda p: AddVector(1, p["v"])),
        "vectors": ({"v": all_layers}, lambda p: Edits(tuple(AddVector(i, v) for i, v in enumerate(p["v"].unbind())))),
        "gates": ({"g": gates}, lambda p: SetHeads(heads, means, p["g"].sigmoid())),
        "values": ({"m": means.clone()}, lambda p: Edits((SetHeads(heads[:3], p["m"]), AddHeads(heads[2:5], p["m"])))),
        "linear": ({"v": vector}, lambda p: AddLinear(0, (p["v"][:, None], p["v"][None]), p["v"])),
        "norm": ({"v": vector}, lambda p: Edits((AddKeepingNorm(0, p["v"]), ReplaceResidual(1, p["v"], 0.5)))),
        "attention": ({"s": torch.tensor([0.5, 2.0])}, lambda p: mixed(p["s"], vector, "attention")),
        "outside": ({"f": torch.tensor(0.7)}, lambda p: Negated(1, p["f"])),
    }
    if lm.spec.mlp:
        found["mlp"] = ({"s": torch.tensor([0.5, 2.0])}, lambda p: mixed(p["s"], vector, "mlp"))
    return found


def mixed(scales: Tensor, vector: Tensor, part: str) -> Edit:
    return Edits(tuple(Mix(layer, part, scale, scale**2 * vector) for layer, scale in enumerate(scales)))


def whole_gradients(lm: LanguageModel, prompts: list[Prompt], parameters: Parameters, edit_of: EditOf) -> list[Tensor]:
    """Gradients of the mean log p by one graph through whole forwards, under plain hooks."""
    values = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    total = torch.zeros((), dtype=torch.float64)
    for prompt in prompts:
        with torch.enable_grad():
            total = total + logprob_under(lm, prompt, edit_of(values)) / len(prompts)
    return [*torch.autograd.grad(total, [*values.values()])]


def logprob_under(lm: LanguageModel, prompt: Prompt, edit: Edit) -> Tensor:
    """log p(target) of a full forward whose last token plain hooks edit, place by place."""
    modules: Mapping[str, Any] = {"heads": lm.out_projs, "attention": lm.out_projs, "residual": lm.blocks}
    handles = []
    for part in edit.parts:
        for place in part.places:
            here = (lm.mlps if place.part == "mlp" else modules[place.part])[place.layer]

            def changed(hidden: Tensor, part: Edit = part, place: Place = place) -> Tensor:
                shape = (1, lm.n_heads, lm.head_dim) if place.part == "heads" else (1, hidden.shape[-1])
                last = part.change(place, hidden[:, -1].reshape(shape)).reshape(1, 1, -1)
                return torch.cat([hidden[:, :-1], last], 1)

            def before(_module: Any, args: Any, changed: Any = changed) -> Any:
                return (changed(args[0]), *args[1:])

            def after(_module: Any, _args: Any, output: Any, changed: Any = changed) -> Any:
                return (changed(output[0]), *output[1:]) if isinstance(output, tuple) else changed(output)

            is_input = place.part == "heads"
            handles.append(here.register_forward_pre_hook(before) if is_input else here.register_forward_hook(after))
    try:
        logits = lm.model(input_ids=torch.tensor([prompt.token_ids]), use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    return logits[0, -1].double().log_softmax(-1)[prompt.target]


def engine_gradients(engine: TrainingEngine, prompts: list[Prompt], case: Case) -> list[Tensor]:
    """Gradients of the mean log p over prompts by which an engine makes its first step, one per parameter."""
    parameters, edit_of = case
    sums: dict[str, Tensor] = {}

    def add(name: str, gradient: Tensor) -> None:
        sums[name] = sums.get(name, 0) - gradient

    def watched(values: Parameters) -> Edit:
        for name, value in values.items():
            if torch.is_grad_enabled() and not watching:
                value.register_hook(lambda gradient, name=name: add(name, gradient))
        watching.append(torch.is_grad_enabled())
        return edit_of(values)

    watching: list[bool] = []
    engine.trained(prompts, prompts[:1], parameters, watched, Descent(steps=1))
    return [*sums.values()]


# Gradients


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", ["auto", "naive"])
def test_a_step_follows_the_gradient_of_plain_autograd_through_whole_forwards(family: str, mode: str) -> None:
    lm = tiny(family)
    prompts = prompts_of(lm, [7, 1, 5, 7])
    for name, case in cases(lm).items():
        due = whole_gradients(lm, prompts, *case)
        # Two prompts of seven tokens fit into a pass.
        found = engine_gradients(make_engine(lm, mode, 14), prompts, case)
        assert max(float(one.abs().max()) for one in due) > 1e-3, name
        for own, gradient in zip(found, due, strict=True):
            told = partial("{}: {}".format, name)
            torch.testing.assert_close(own, gradient.to(own), rtol=1e-4, atol=1e-5, msg=told)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_in_float64_the_gradients_agree_to_twelve_digits(family: str) -> None:
    lm = tiny(family, torch.float64)
    prompts = prompts_of(lm, [7, 5, 7])
    with KeepFloat64():
        for parameters, edit_of in cases(lm).values():
            wide = {name: value.double() for name, value in parameters.items()}
            due = whole_gradients(lm, prompts, wide, edit_of)
            found = engine_gradients(make_engine(lm, "auto", 64), prompts, (wide, edit_of))
            torch.testing.assert_close(found, due, rtol=1e-10, atol=1e-12)


# Trainings


@pytest.mark.parametrize("family", FAMILIES)
def test_a_training_is_that_of_the_naive_engine(family: str) -> None:
    lm = tiny(family)
    prompts, aside = prompts_of(lm, [7, 1, 5]), prompts_of(lm, [5, 7], seed=1)
    for name in ("vectors", "gates"):
        parameters, edit_of = cases(lm)[name]
        asked = (prompts, aside, parameters, edit_of, Descent(steps=4, rate=0.05, patience=4))
        due, found = NaiveEngine(lm).trained(*asked), make_engine(lm, "auto", 64).trained(*asked)
        torch.testing.assert_close(found.logprobs, due.logprobs, rtol=0, atol=1e-4)
        torch.testing.assert_close(found.unedited, due.unedited, rtol=0, atol=1e-5)
        assert found.n_steps == due.n_steps
        assert due.logprobs.shape == (5, 5)
        assert (due.logprobs[-1] - due.logprobs[0])[:3].mean() > 0.005


def sharp(family: str) -> LanguageModel:
    """A tiny model that can be as sure of a token as any; with random weights it could not."""
    lm = tiny(family)
    lm.final_norm.weight.mul_(4)  # type: ignore[operator]
    return lm


def steered(lm: LanguageModel, targets: list[int], n_aside: int, rate: float = 0.1, steps: int = 60) -> Any:
    """The training of a vector after the last block towards these targets, each of a prompt of its own."""
    prompts = [p._replace(answer=(t,)) for p, t in zip(prompts_of(lm, [6] * len(targets)), targets, strict=True)]
    n = len(prompts) - n_aside
    start, last = {"v": torch.zeros(lm.d_model)}, lm.n_layers - 1
    engine = make_engine(lm, "auto", 64)
    descent = Descent(steps, rate, patience=steps)
    return engine.trained(prompts[:n], prompts[n:], start, lambda p: AddVector(last, p["v"]), descent)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_steering_to_one_token_is_learned_for_prompts_that_were_never_trained_on(family: str) -> None:
    found = steered(sharp(family), [11] * 8, 3)
    assert found.unedited.exp().max() < 0.5
    after = found.logprobs[found.n_steps].exp()
    assert after.min() > 0.8 and after.mean() > 0.95
    assert found.aside_delta == pytest.approx(float((found.logprobs[found.n_steps] - found.unedited)[-3:].mean()))
    assert found.delta == pytest.approx(float((found.logprobs[found.n_steps] - found.unedited)[:5].mean()))


def test_a_known_optimum_is_found() -> None:
    # The residual stream after the last block is replaced by a vector, so log p depends on the vector alone: with two
    # targets in equal number, no distribution is better than half for each.
    lm = sharp("llama")
    prompts = [p._replace(answer=(t,)) for p, t in zip(prompts_of(lm, [6] * 6), [5, 9] * 3, strict=True)]
    start, last = {"v": torch.zeros(lm.d_model)}, lm.n_layers - 1
    descent = Descent(steps=300, rate=0.05, patience=300)
    engine = make_engine(lm, "auto", 64)
    found = engine.trained(prompts[:4], prompts[4:], start, lambda p: ReplaceResidual(last, p["v"]), descent)
    torch.testing.assert_close(found.logprobs[found.n_steps].exp(), torch.full((6,), 0.5).double(), rtol=0, atol=0.02)


def test_training_on_noise_stops_by_the_prompts_held_aside() -> None:
    lm = tiny("llama")
    rng = torch.Generator().manual_seed(5)
    noise = torch.randint(0, lm.vocabulary, (12,), generator=rng).tolist()
    found = steered(lm, noise, 4)
    means = found.logprobs[:, -4:].mean(1)
    assert found.n_steps == int(means.argmax()) < 30
    last = found.logprobs[-1] - found.unedited
    assert last[:8].mean() > found.delta + 0.5  # what it was trained on goes on rising
    assert last[-4:].mean() < found.aside_delta


def test_training_ends_after_so_many_steps_without_a_better_one() -> None:
    lm = tiny("llama")
    # The target of the prompts held aside becomes ever less likely.
    prompts = [p._replace(answer=(11,)) for p in prompts_of(lm, [6] * 4)]
    aside = [p._replace(answer=(12,)) for p in prompts_of(lm, [6] * 2, seed=1)]
    start = {"v": torch.zeros(lm.d_model)}
    engine = make_engine(lm, "auto", 64)
    found = engine.trained(prompts, aside, start, lambda p: AddVector(0, p["v"]), Descent(60, 0.3, patience=3))
    assert len(found.logprobs) == found.n_steps + 1 + 3
    if not found.n_steps:
        assert torch.equal(found.parameters["v"], start["v"])


def test_the_bytes_repeat_and_nothing_of_the_caller_changes() -> None:
    lm = tiny("llama")
    lm.model.requires_grad_(True).train()
    prompts = prompts_of(lm, [6, 3, 6, 9])
    parameters, edit_of = cases(lm)["gates"]
    before = parameters["g"].clone()

    def run() -> Any:
        return make_engine(lm, "auto", 64).trained(prompts[:3], prompts[3:], parameters, edit_of, Descent(5, 0.1, 5))

    first = run()
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            again = run()
        assert torch.equal(again.logprobs, first.logprobs)
        assert torch.equal(again.parameters["g"], first.parameters["g"])
    assert torch.equal(parameters["g"], before) and not parameters["g"].requires_grad
    assert not first.parameters["g"].requires_grad
    assert all(weight.grad is None and weight.requires_grad for weight in lm.model.parameters())
    assert lm.model.training


@pytest.mark.parametrize("mode", ["shared_prefix", "expanded"])
def test_prompts_run_once_and_steps_run_rows_from_the_first_changed_block_on(mode: str) -> None:
    lm = tiny("llama")
    sizes: list[tuple[int, int]] = []
    for layer, block in enumerate(lm.blocks):
        block.register_forward_hook(
            lambda _m, args, _out, layer=layer: sizes.append((layer, args[0].shape[:2].numel()))
        )
    engine = make_engine(lm, mode, 64)
    engine.target_logprobs(prompts_of(lm, [6]), [None])  # looks once at masks, and at what can be fused
    sizes.clear()
    prompts, start = prompts_of(lm, [6, 6, 6]), {"v": torch.zeros(lm.d_model)}
    engine.trained(prompts[:2], prompts[2:], start, lambda p: AddVector(1, p["v"]), Descent(4, 0.01, 4))
    rows = [layer for layer, size in sizes if size == 3]
    assert rows.count(2) >= 5 and rows.count(1) == rows.count(0) <= 2
    assert sum(size for _, size in sizes if size > 3) == 3 * (6 * 2 if mode == "shared_prefix" else 5 * 3)


# Outputs of parts


@pytest.mark.parametrize("family", FAMILIES)
def test_part_outputs_are_those_of_a_full_forward(family: str) -> None:
    lm = tiny(family)
    prompts = prompts_of(lm, [7, 1, 5])
    for part, modules in {"attention": lm.out_projs, "mlp": lm.mlps if lm.spec.mlp else []}.items():
        if not modules:
            continue
        due = torch.stack([plain_outputs(lm, modules, prompt) for prompt in prompts])
        for mode in ("auto", "naive"):
            found = make_engine(lm, mode, 14).part_outputs(prompts, part)
            torch.testing.assert_close(found, due, rtol=1e-4, atol=1e-5)


def plain_outputs(lm: LanguageModel, modules: Any, prompt: Prompt) -> Tensor:
    """(n_layers, d_model) of a full forward, by plain hooks."""
    found: list[Tensor] = []

    def keep(_module: Any, _args: Any, output: Any) -> None:
        found.append((output[0] if isinstance(output, tuple) else output)[0, -1].clone())

    handles = [module.register_forward_hook(keep) for module in modules]
    with torch.no_grad():
        lm.model(input_ids=torch.tensor([prompt.token_ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return torch.stack(found)


# Refusals


def test_a_model_that_is_being_edited_is_not_trained_on() -> None:
    lm = tiny_editable("llama")
    prompts, (parameters, edit_of) = prompts_of(lm, [5, 5]), cases(lm)["vector"]
    with pytest.raises(ModelError, match="being edited"), lm.edited(AddVector(1, torch.ones(lm.d_model))):
        make_engine(lm, "auto", 64).trained(prompts[:1], prompts[1:], parameters, edit_of, Descent())


def test_a_rate_that_is_too_high_is_refused() -> None:
    lm = tiny("llama")
    prompts, start = prompts_of(lm, [5, 5]), {"v": torch.zeros(lm.d_model)}
    with pytest.raises(NotFiniteError, match=r"^log p is not finite after 1 steps of training: use a smaller rate\.$"):
        make_engine(lm, "auto", 64).trained(
            prompts[:1], prompts[1:], start, lambda p: AddVector(0, p["v"].exp()), Descent(5, 1e3, 5)
        )


@pytest.mark.parametrize(("n", "told"), [(0, "to train on"), (2, "held aside, to stop by")])
def test_without_prompts_nothing_is_trained(n: int, told: str) -> None:
    lm = tiny("llama")
    prompts, (parameters, edit_of) = prompts_of(lm, [5, 5]), cases(lm)["vector"]
    for mode in ("auto", "naive"):
        with pytest.raises(ConfigError, match=told):
            make_engine(lm, mode, 64).trained(prompts[:n], prompts[n:], parameters, edit_of, Descent())
