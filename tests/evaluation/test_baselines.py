"""Comparison of makers: each number is that of plain forwards at the option that dev trials choose."""

import numpy as np
import pandas as pd
import pytest
import torch
from maker_trials import QUIET, RELATIONS

import fv
from fv.errors import ConfigError
from fv.evaluation.compare_makers import MakerComparison
from fv.evaluation.selection import parts_of
from fv.evaluation.unrelated_texts import read_unrelated
from fv.models.language_model import LanguageModel

LAYERS, ALPHAS = [0, 1], [0.5, 2.0]
MAKERS = ["mean_difference", "distributed_heads", "linear_vector"]


@pytest.fixture(scope="module")
def trials(tiny_llama: LanguageModel) -> fv.Trials:
    return fv.sample_trials(RELATIONS, tiny_llama, demos=2, fit=3, held_out=3, seed=3)


@pytest.fixture(scope="module")
def effects(tiny_llama: LanguageModel, trials: fv.Trials) -> fv.Effects:
    return fv.indirect_effects(tiny_llama, trials, compute=QUIET)


def compared(lm: LanguageModel, trials: fv.Trials, effects: fv.Effects, **more: object) -> MakerComparison:
    given = {"layers": LAYERS, "alphas": ALPHAS, "k": 3, "n_unrelated": 2, "compute": QUIET} | more
    return fv.baselines(lm, trials, effects, MAKERS, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def found(tiny_llama: LanguageModel, trials: fv.Trials, effects: fv.Effects) -> MakerComparison:
    return compared(tiny_llama, trials, effects)


def logits(lm: LanguageModel, text: str, edit: fv.AddVector | None = None) -> torch.Tensor:
    """Log probabilities of the token after a text, by a full forward with the edit at the last token."""
    ids = torch.tensor([lm.encode(text, add_special_tokens=False)])

    def add(_: object, __: object, put: object) -> object:
        hidden = put[0] if isinstance(put, tuple) else put
        assert isinstance(hidden, torch.Tensor) and edit is not None
        hidden = hidden.clone()
        hidden[:, -1] += edit.vector
        return (hidden, *put[1:]) if isinstance(put, tuple) else hidden

    handles = [] if edit is None else [lm.blocks[edit.layer].register_forward_hook(add)]
    with torch.no_grad():
        values = lm.model(input_ids=ids, use_cache=False).logits[0, -1].double().log_softmax(-1)
    for handle in handles:
        handle.remove()
    return values


def kl(before: torch.Tensor, after: torch.Tensor) -> float:
    return float((before.exp() * (before - after)).sum())


def row(found: MakerComparison, maker: str, q_id: str, choice: str = "best") -> pd.Series:
    table = found.table
    own = table[(table["condition"] == maker) & (table["eval_qid"] == q_id) & (table["choice"] == choice)]
    assert len(own) == 1
    return own.iloc[0]


@pytest.mark.parametrize("q_id", RELATIONS)
def test_a_maker_is_run_at_the_option_that_is_best_on_dev_trials(
    tiny_llama: LanguageModel, trials: fv.Trials, effects: fv.Effects, found: MakerComparison, q_id: str
) -> None:
    parts = parts_of(trials.snapshot, q_id, trials[q_id].held_out, 0.3, trials.snapshot.meta.seed)
    dev, test = ([t for t in trials[q_id].held_out if parts[t.trial_id] == part] for part in ("dev", "test"))
    means = effects.means[q_id]
    weaker = [0.0625 * min(ALPHAS), 0.25 * min(ALPHAS)]
    difference = means.residual - means.zero_shot_residual
    cells = [(layer, alpha) for layer in LAYERS for alpha in [*weaker, *ALPHAS]]
    edits = {(layer, alpha): fv.AddVector(layer, alpha * difference[layer]) for layer, alpha in cells}

    def effect(trial: object, edit: fv.AddVector) -> float:
        text, target = trial.prompt("zero_shot"), trial.target_first_token_id  # type: ignore[attr-defined]
        return float(logits(tiny_llama, text, edit)[target] - logits(tiny_llama, text)[target])

    on_dev = {cell: np.mean([effect(trial, edit) for trial in dev]) for cell, edit in edits.items()}
    best = max(on_dev, key=lambda cell: on_dev[cell])
    here = row(found, "mean_difference", q_id)
    if on_dev[best] <= 0:
        assert here["delta_logprob"] == 0
        return
    assert here["dev_delta_logprob"] == pytest.approx(max(on_dev.values()), abs=2e-5)
    chosen = edits[here["layer"], here["alpha"]]
    assert here["delta_logprob"] == pytest.approx(np.mean([effect(trial, chosen) for trial in test]), abs=2e-5)
    distances = [
        kl(logits(tiny_llama, trial.prompt("clean")), logits(tiny_llama, trial.prompt("zero_shot"), chosen))
        for trial in test
    ]
    assert here["d_ntp"] == pytest.approx(np.mean(distances), rel=1e-3, abs=1e-6)


def test_the_second_choice_keeps_to_its_budget_of_harm(
    tiny_llama: LanguageModel, trials: fv.Trials, effects: fv.Effects, found: MakerComparison
) -> None:
    harms = found.table.loc[(found.table["choice"] == "best") & (found.table["condition"] == "mean_difference"), "kl"]
    budget = float(harms[harms > 0].min()) * 0.5
    strict = compared(tiny_llama, trials, effects, budget=budget).table
    within = strict[(strict["choice"] == "within_budget") & (strict["eval_qid"] != "")]
    assert (within["kl"].dropna() <= budget + 1e-9).all()
    pd.testing.assert_frame_equal(
        strict[strict["choice"] == "best"].reset_index(drop=True),
        found.table[found.table["choice"] == "best"].reset_index(drop=True),
    )


def test_differences_are_paired_and_the_reference_differs_from_itself_by_nothing(found: MakerComparison) -> None:
    for q_id in RELATIONS:
        reference, few_shot = row(found, "function_vector", q_id), row(found, "few_shot", q_id)
        for maker in MAKERS:
            here = row(found, maker, q_id)
            due = here["delta_logprob"] - reference["delta_logprob"]
            assert here["minus_reference"] == pytest.approx(due, abs=1e-9)
            assert here["minus_few_shot"] == pytest.approx(here["delta_logprob"] - few_shot["delta_logprob"], abs=1e-9)
        assert np.isnan(reference["minus_reference"])


def test_what_a_maker_used_stands_beside_its_numbers(found: MakerComparison) -> None:
    here = row(found, "linear_vector", "antonym")
    assert (here["n_fit_trials"], here["n_options"]) == (3, 2 * 4)
    assert here["n_fitted"] == 2 * 3 * 40 + 40
    assert row(found, "mean_difference", "antonym")["n_fitted"] == 0
    assert here["source"] == "Kwon et al. 2026"
    zero, few = row(found, "zero_shot", "antonym"), row(found, "few_shot", "antonym")
    assert few["d_ntp"] == pytest.approx(0, abs=1e-6)
    assert zero["d_ntp"] > 0


def test_the_mean_over_relations_is_the_mean_of_their_rows(found: MakerComparison) -> None:
    for maker in ("function_vector", *MAKERS):
        each = [row(found, maker, q_id)["delta_logprob"] for q_id in RELATIONS]
        assert row(found, maker, "")["delta_logprob"] == pytest.approx(np.mean(each))


def test_the_same_comparison_has_the_same_bytes(
    tiny_llama: LanguageModel, trials: fv.Trials, effects: fv.Effects, found: MakerComparison
) -> None:
    again = compared(tiny_llama, trials, effects)
    for table in ("table", "means", "contrasts"):
        assert getattr(again, table).to_csv() == getattr(found, table).to_csv()


def test_every_maker_that_needs_no_setting_is_compared_and_drawn(
    tiny_llama: LanguageModel, trials: fv.Trials, effects: fv.Effects
) -> None:
    every = fv.baselines(
        tiny_llama, trials["antonym"], effects, layers=[1], alphas=[1.0], k=3, n_unrelated=1, compute=QUIET
    )
    assert "linear task vector" in repr(every)
    assert {"function_vector", "state_vector", "set_heads"} <= {*every.table["condition"]}
    drawn = every.plot().table  # type: ignore[attr-defined]
    assert {*drawn["condition"]} == {*every.table["condition"]} - {"zero_shot"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"budget": 0}, "budget=0 must be above 0"),
        ({"n_unrelated": 0}, "n_unrelated=0 must be 1 or more"),
        ({"dev_fraction": 0}, "leaves no trials to choose"),
        ({"settings": {"layer_mean": {}}}, "no maker among those named called 'layer_mean'"),
        ({"layers": [3]}, "layers"),
    ],
)
def test_an_impossible_comparison_is_refused(
    tiny_llama: LanguageModel, trials: fv.Trials, effects: fv.Effects, more: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        compared(tiny_llama, trials, effects, **more)


def test_effects_of_other_relations_are_refused(
    tiny_llama: LanguageModel, trials: fv.Trials, effects: fv.Effects
) -> None:
    own = fv.indirect_effects(tiny_llama, trials["antonym"], layers=[0], compute=QUIET)
    with pytest.raises(ConfigError, match="effects lack plural"):
        compared(tiny_llama, trials, own)
    assert len(read_unrelated(2)) == 2
