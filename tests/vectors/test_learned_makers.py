"""Makers that are trained: a planted optimum, the stop, what they see, and what they refuse."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from families import tiny
from maker_trials import CELLS, fit_trials, made_by, trials_with
from torch import Tensor

import fv
from fv.data.prompts import prompt_of
from fv.errors import ConfigError
from fv.interventions.naive import NaiveEngine
from fv.interventions.training import Descent
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.vectors.learned import LearnedMaker
from fv.vectors.maker import FitTrials, Report
from fv.vectors.makers import maker_classes, makers_of
from fv.vectors.options import Option
from fv.vectors.stream import Stream

STREAM = Stream()
LEARNED = [name for name, kind in maker_classes().items() if kind.trains]


def maker(name: str, **settings: object) -> LearnedMaker:
    found = makers_of([name], {name: settings})[name]
    assert isinstance(found, LearnedMaker)
    return found


@pytest.fixture(scope="module")
def of(tiny_llama: LanguageModel) -> FitTrials:
    return fit_trials(tiny_llama)


def one_answer(of: FitTrials) -> FitTrials:
    """The same fit trials, each with the answer of the first."""
    first = of.snapshot.of(of.q_id, "fit")[0].target_token_ids
    trials = [trial.model_copy(update={"target_token_ids": first}) for trial in of.snapshot.trials]
    snapshot = of.snapshot.model_copy(update={"trials": trials})
    return FitTrials(of.lm, of.engine, snapshot, of.q_id, of.effects, of.ranking, of.cells, of.shares, of.seed)


def means_under(of: FitTrials, own: LearnedMaker, option: Option) -> list[float]:
    """Mean log p of the trained and of the held-aside queries under an option relative to no edit, one by one."""
    edit = made_by(own, of).options.edit(option, STREAM)
    found = [NaiveEngine(of.lm).target_logprobs(part, [None, edit]).mean(0) for part in own.prompts(of)]
    return [float(after - before) for before, after in found]


def test_the_makers_of_the_literature_are_there() -> None:
    assert LEARNED == ["i2cl", "learned_vector", "learned_vectors", "learned_weights", "soft_gates"]


@pytest.mark.parametrize("name", LEARNED)
def test_a_report_is_what_full_forwards_of_the_chosen_edit_give(of: FitTrials, name: str) -> None:
    own = maker(name, steps=4, rate=0.05)
    result = made_by(own, of)
    assert result.options.choices and result.n_fitted > 0
    for option in result.options.choices:
        report = result.report(option)
        trained, aside = means_under(of, own, option)
        assert report.train_delta_logprob == pytest.approx(trained, abs=1e-4)
        assert report.aside_delta_logprob == pytest.approx(aside, abs=1e-4)
        assert 0 <= report.n_steps <= 4
    assert result.report(Option()) == result.report(result.options.default)


@pytest.mark.parametrize(("name", "rate"), [("learned_vector", 0.5), ("learned_vectors", 0.5)])
def test_of_one_answer_for_all_it_is_learned_and_helps_queries_that_were_never_seen(
    of: FitTrials, name: str, rate: float
) -> None:
    easy = one_answer(of)
    with sharpened(of.lm):
        result = made_by(maker(name, steps=60, rate=rate, patience=60), easy)
        edit = result.options.edit(result.options.default, STREAM)
        prompts = [p._replace(answer=easy.prompts("zero_shot")[0].answer) for p in unseen(of)]
        before, after = NaiveEngine(of.lm).target_logprobs(prompts, [None, edit]).mean(0)
    assert before < -3 and after > -0.2
    assert result.report(result.options.default).aside_delta_logprob > 3


@contextmanager
def sharpened(lm: LanguageModel) -> Iterator[None]:
    """Let a tiny model be as sure of a token as any; with random weights it could not."""
    weight = lm.final_norm.weight
    assert isinstance(weight, Tensor)
    with torch.no_grad():
        weight.mul_(8)
        yield
        weight.div_(8)


def unseen(of: FitTrials) -> list[Prompt]:
    """Zero-shot prompts of the relation's held-out trials."""
    return [prompt_of(of.lm, of.snapshot, trial, "zero_shot") for trial in of.snapshot.of(of.q_id, "eval")]


def test_gates_that_only_a_mean_can_help_open(of: FitTrials) -> None:
    # Means that lead to one answer: the gates of the last layer's heads have to open.
    result = made_by(maker("soft_gates", steps=60, rate=0.3, patience=60), one_answer(of))
    gates = result.tensors["gates"]
    assert ((gates >= 0) & (gates <= 1)).all()
    assert result.report(result.options.default).train_delta_logprob > 0
    edit = result.options.edit(result.options.default, STREAM)
    assert isinstance(edit, fv.SetHeads)
    assert len(edit.heads) == of.lm.n_layers * of.lm.n_heads


def test_learned_weights_sum_contributions_of_heads_up_to_their_layer(of: FitTrials) -> None:
    result = made_by(maker("learned_weights", depths=[0.5], steps=3, rate=0.5), one_answer(of))
    (layer,), (vector,) = result.tensors["layers"].tolist(), result.tensors["vectors"]
    change = of.means.clean - of.means.zero_shot
    each = torch.cat([of.lm.added_by(below, change[below]) for below in range(layer + 1)])
    weights = torch.linalg.lstsq(each.T, vector.double()[:, None]).solution
    torch.testing.assert_close((each.T @ weights)[:, 0].float(), vector, rtol=1e-4, atol=1e-5)
    assert vector.norm() > 0
    assert result.n_fitted == len(each)


def test_i2cl_mixes_with_the_mean_outputs_of_pairs_shown_alone(of: FitTrials) -> None:
    own = maker("i2cl", steps=1, rate=1e-9)
    result = made_by(own, of)
    pairs = dict.fromkeys(trial.query for trial in of.snapshot.of(of.q_id, "fit"))
    texts = [f"Q: {pair.exA}\nA: {pair.exB}" for pair in pairs]
    for place, modules in enumerate((of.lm.out_projs, of.lm.mlps)):
        due = torch.stack([outputs(of.lm, modules, text) for text in texts]).mean(0)
        torch.testing.assert_close(result.tensors["context"][place], due, rtol=1e-4, atol=1e-5)
    start = torch.tensor([1.0, 0.1]).expand(2, of.lm.n_layers, 2)
    torch.testing.assert_close(result.tensors["factors"], start)
    edit = result.options.edit(result.options.default, STREAM)
    assert edit is not None
    mixes = [part for part in edit.parts if isinstance(part, fv.Mix)]
    assert len(mixes) == 2 * of.lm.n_layers == result.n_fitted // 2
    assert mixes[0].vector is not None
    torch.testing.assert_close(mixes[0].vector, 0.1 * result.tensors["context"][0, 0])
    edit.check(of.lm)


def outputs(lm: LanguageModel, modules: list[torch.nn.Module], text: str) -> Tensor:
    """(n_layers, d_model) at the last token, by plain hooks."""
    found: list[Tensor] = []
    handles = [module.register_forward_hook(lambda _m, _a, output: found.append(output[0, -1])) for module in modules]
    with torch.no_grad():
        lm.model(input_ids=torch.tensor([lm.encode(text, add_special_tokens=False)]), use_cache=False)
    for handle in handles:
        handle.remove()
    return torch.stack(found)


# What is trained on


def test_a_quarter_of_the_queries_is_held_aside_each_query_once(tiny_llama: LanguageModel) -> None:
    words = [(f"in{i}", f"out{i}") for i in range(20)]
    trials = fv.sample_trials({"antonym": words}, tiny_llama, demos=2, fit=30, held_out=4, seed=3)
    effects = fv.indirect_effects(tiny_llama, trials, n_trials=1, layers=[0], compute=fv.Compute(progress=False))
    of = trials_with(tiny_llama, trials, effects, "antonym")
    prompts, aside = maker("learned_vector").prompts(of)
    queries = {trial.query for trial in of.snapshot.of("antonym", "fit")}
    assert len(queries) < 30
    assert len(aside) == len(queries) // 4
    ids = [prompt.token_ids for prompt in (*prompts, *aside)]
    assert len({*ids}) == len(ids) == len(queries)
    assert {*ids} == {prompt.token_ids for prompt in of.prompts("zero_shot")}


def test_shuffled_answers_are_those_of_other_queries(of: FitTrials) -> None:
    own, shuffled = maker("learned_vector"), maker("learned_vector", shuffled=True)
    before, after = ([*part[0], *part[1]] for part in (own.prompts(of), shuffled.prompts(of)))
    assert [prompt.token_ids for prompt in before] == [prompt.token_ids for prompt in after]
    assert sorted(prompt.answer for prompt in before) == sorted(prompt.answer for prompt in after)
    assert all(one.answer != other.answer for one, other in zip(before, after, strict=True))
    assert own.depends_on(of) != shuffled.depends_on(of)


def test_noise_stops_early_and_the_kept_step_is_the_best_of_the_queries_held_aside(of: FitTrials) -> None:
    own = maker("learned_vector", shuffled=True, steps=60, rate=0.3, patience=5, depths=[0.5])
    report = made_by(own, of).report(Option(1, 1.0))
    assert report.n_steps < 30
    assert report.aside_delta_logprob >= 0  # no edit is where it starts


def test_layers_are_at_depths_of_the_runs_cells(of: FitTrials) -> None:
    assert {cell.layer for cell in CELLS} == {0, 1, 2}
    own = maker("learned_vector", steps=1, depths=[0.0, 0.5, 1.0, 1.0])
    result = made_by(own, of)
    assert [tuple(option) for option in result.options.choices] == [(0, 1.0), (1, 1.0), (2, 1.0)]
    assert {result.options.edit(option, STREAM).first_block for option in result.options.choices} == {1, 2, 3}  # type: ignore[union-attr]
    best = max(result.options.choices, key=lambda option: result.report(option).aside_delta_logprob)
    assert result.options.default == best


def test_a_maker_without_training_reports_nothing(of: FitTrials) -> None:
    result = made_by(makers_of(["mean_difference"])["mean_difference"], of)
    assert not result.reports
    assert all(number != number for number in result.report(result.options.default))
    assert Report._fields == ("n_steps", "train_delta_logprob", "aside_delta_logprob")


# Refusals


def test_one_query_is_too_few(of: FitTrials) -> None:
    first = of.snapshot.of(of.q_id, "fit")[0]
    snapshot = of.snapshot.model_copy(update={"trials": [first]})
    alone = FitTrials(of.lm, of.engine, snapshot, of.q_id, of.effects, of.ranking, of.cells, of.shares, of.seed)
    with pytest.raises(ConfigError, match=r"^learned vector needs fit trials of two queries of antonym"):
        maker("learned_vector").prompts(alone)


def test_an_engine_that_cannot_train_is_refused(of: FitTrials) -> None:
    class Foreign:
        lm = of.lm

    other = FitTrials(of.lm, Foreign(), of.snapshot, of.q_id, of.effects, of.ranking, of.cells)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="needs an engine that trains, which Foreign does not"):
        maker("soft_gates").compute(other, {}, lambda _: None)


def test_a_family_without_named_mlps_has_no_i2cl() -> None:
    lm = next((lm for lm in map(tiny, ("opt", "mpt", "gpt_neo", "xglm")) if not lm.spec.mlp), None)
    if lm is None:
        pytest.skip("every family names its MLPs")
    of = FitTrials(lm, NaiveEngine(lm), None, "q", None, None, [])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^The maker i2cl mixes the outputs of MLPs"):
        maker("i2cl").compute(of, {}, lambda _: None)


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("learned_vector", {"steps": 0}, "learned_vector.steps=0 must be 1 or more"),
        ("soft_gates", {"rate": 0}, "soft_gates.rate=0.0 must be above 0"),
        ("i2cl", {"patience": 0}, "i2cl.patience=0 must be 1 or more"),
        ("learned_weights", {"depths": [0.5, 1.5]}, r"learned_weights.depths=\[0.5, 1.5\] must be numbers from 0 to 1"),
        ("learned_vector", {"depths": []}, r"learned_vector.depths=\[\] must be numbers from 0 to 1"),
        ("learned_vectors", {"depths": [0.5]}, "no setting of learned_vectors called 'depths'"),
    ],
)
def test_impossible_settings_are_refused(name: str, settings: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        makers_of([name], {name: settings})


def test_the_defaults_of_the_engine_are_those_of_the_makers() -> None:
    own = maker("learned_vector")
    assert (own.steps, own.patience) == (Descent().steps, Descent().patience)
