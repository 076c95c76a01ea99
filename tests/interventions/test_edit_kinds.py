"""Edits of every kind against plain hooks, on every engine and in a running model; and edits from outside."""

from dataclasses import dataclass

import pytest
import torch
from edit_makers import endless, padded, random_prompts
from edit_oracle import edited_logits
from families import FAMILIES, KINDS, tiny
from sweep_checks import prompts_of, values_of, vectors_of
from torch import Tensor

import fv
from fv.errors import ConfigError, FvError, SpecError
from fv.interventions.edit import Edit
from fv.interventions.edits import (
    AddHeads,
    AddKeepingNorm,
    AddLinear,
    AddToAttention,
    AddToMLP,
    AddVector,
    Edits,
    Mix,
    ReplaceResidual,
    SetHeads,
)
from fv.interventions.engine import Engine
from fv.interventions.engines import make_engine
from fv.interventions.place import Part, Place
from fv.models.language_model import LanguageModel

TOLERANCE = 1e-5
MODES = ["naive", "expanded", "auto"]


def edits_of(lm: LanguageModel) -> dict[str, Edit]:
    """Edits of every kind, large enough to matter."""
    (one, two), values, last = vectors_of(lm), values_of(lm), lm.n_layers - 1
    rng = torch.Generator().manual_seed(1)
    weight = 0.3 * torch.randn(lm.d_model, lm.d_model, generator=rng) / lm.d_model**0.5
    up, down = 0.3 * torch.randn(lm.d_model, 2, generator=rng), 0.3 * torch.randn(2, lm.d_model, generator=rng)
    heads = ((0, 1), (last, 0), (last, 3))
    found: dict[str, Edit] = {
        "mean by half": SetHeads(heads, values, 0.5),
        "mean by head": SetHeads(heads, values, torch.tensor([1.0, 0.3, -0.5])),
        "named by head": SetHeads(heads, values[0, :3], torch.tensor([0.2, 0.3, 1.5])),
        "number by half": SetHeads(heads, 0.7, 0.5),
        "heads": AddHeads(heads, values),
        "heads named": AddHeads(heads, values[0, :3]),
        "heads number": AddHeads(heads, 0.8),
        "attention": AddToAttention(1, one),
        "mixed attention": Mix(0, "attention", 0.4, two),
        "mixed residual": Mix(1, "residual", 1.3, one),
        "norm": AddKeepingNorm(last, two),
        "norm early": AddKeepingNorm(0, two),
        "linear": AddLinear(1, weight, one),
        "low rank": AddLinear(0, (up, down)),
        "vectors at layers": Edits(tuple(AddVector(layer, one) for layer in range(lm.n_layers))),
        "heads and vectors": Edits((SetHeads(heads, values), AddVector(0, one), ReplaceResidual(1, two, 0.5))),
        "one place in turn": Edits((AddVector(1, one), Edits((Mix(1, "residual", 0.5), AddVector(1, two))))),
    }
    if lm.spec.mlp:
        found |= {"mlp": AddToMLP(1, one), "mixed mlp": Mix(last, "mlp", -0.5)}
        parts = [Mix(layer, part, 0.9, 0.1 * one) for layer in range(lm.n_layers) for part in ("attention", "mlp")]
        found["coefficients"] = Edits(tuple(parts))
    return found


def check_engine(engine: Engine, edits: list[Edit], n_tokens: tuple[int, ...] = (5, 3, 5)) -> None:
    """Compare targets, answers and divergences under edits, next to rows that are not edited, with plain hooks."""
    lm = engine.lm
    prompts = [p._replace(answer=(p.target, 7), wrong=(5,)) for p in prompts_of(lm, list(n_tokens))]
    rows = [None, *edits, None]
    targets, divergences = engine.target_logprobs(prompts, rows), engine.divergences(prompts, rows)
    answers = engine.answers(prompts, rows)
    for i, prompt in enumerate(prompts):
        last = len(prompt.token_ids) - 1
        own = edited_logits(lm, prompt.token_ids, [], [])[-1].double().log_softmax(-1)
        for j, edit in enumerate(rows):
            ids = [*prompt.token_ids, *prompt.answer]
            logits = edited_logits(lm, ids, [] if edit is None else [edit], [last])[last:].double().log_softmax(-1)
            due = logits[torch.arange(2), torch.tensor(prompt.answer)]
            # A log probability of -20, in a trained model, is rounded more coarsely.
            torch.testing.assert_close(targets[i, j], due[0], rtol=1e-6, atol=TOLERANCE)
            torch.testing.assert_close(answers[i].scores.logprob[j], due, rtol=1e-6, atol=TOLERANCE)
            divergence = float((own.exp() * (own - logits[0])).sum())
            assert float(divergences[i, j]) == pytest.approx(divergence, abs=TOLERANCE, rel=1e-4), edit
            if edit is not None:
                assert divergence > 1e-5, edit


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_of_edit_acts_as_plain_hooks_do(family: str, mode: str) -> None:
    lm = tiny(family)
    check_engine(make_engine(lm, mode, 64), list(edits_of(lm).values()))


@pytest.mark.parametrize("max_rows", [2, 9, 4096])
def test_the_size_of_passes_does_not_matter(max_rows: int) -> None:
    lm = tiny("llama")
    check_engine(make_engine(lm, "auto", max_rows), list(edits_of(lm).values()))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_so_they_do_in_a_trained_model(smollm2: LanguageModel, mode: str) -> None:
    (one, two), values, heads = 20 * vectors_of(smollm2), values_of(smollm2), ((3, 1), (20, 0), (20, 8))
    edits = [
        *(SetHeads(heads, values, torch.tensor([0.3, 1.0, 0.5])), AddHeads(heads, 0.1 * values)),
        *(AddToAttention(9, one), AddToMLP(11, one), Mix(4, "mlp", 0.5, two), AddKeepingNorm(12, two)),
        AddLinear(7, (0.1 * one[:, None], 0.1 * two[None]), one),
        Edits(tuple(AddVector(layer, one / 4) for layer in range(5, 25, 3))),
        Edits((SetHeads(heads, 0.0), AddVector(8, one), AddToMLP(29, two))),
    ]
    check_engine(make_engine(smollm2, mode, 256), edits, (7, 4))


@pytest.mark.parametrize("positions", ["last_prompt", "all"])
@pytest.mark.parametrize("family", KINDS)
def test_every_kind_of_edit_acts_in_a_running_model(family: str, positions: str) -> None:
    lm = endless(family)
    prompts = random_prompts(lm, [5, 3])
    for name, edit in edits_of(lm).items():
        with lm.edited(edit, positions), torch.no_grad():
            found = lm.model(**padded(prompts, "right")).logits
        for prompt, logits in zip(prompts, found, strict=True):
            where = range(len(prompt)) if positions == "all" else [len(prompt) - 1]
            due = edited_logits(lm, prompt, [edit], [*where])
            torch.testing.assert_close(logits[: len(prompt)], due, rtol=1e-5, atol=5e-5, msg=name)


@pytest.mark.parametrize("name", edits_of(tiny("llama")))
def test_a_scaled_edit_begins_at_none_and_is_itself_at_one(name: str) -> None:
    lm = tiny("llama")
    engine, edit, prompts = make_engine(lm, "naive", 64), edits_of(lm)[name], prompts_of(lm, [5])
    found = engine.target_logprobs(prompts, [None, edit.scaled(0), edit, edit.scaled(1), edit.scaled(0.5)])[0]
    assert float(found[0]) == pytest.approx(float(found[1]), abs=TOLERANCE)
    assert float(found[2]) == pytest.approx(float(found[3]), abs=TOLERANCE)
    assert found[4] not in (found[0], found[2])


def test_an_edit_enters_at_the_first_block_whose_result_it_changes() -> None:
    vector = torch.ones(40)
    assert AddVector(1, vector).first_block == 2
    assert AddToMLP(1, vector).first_block == AddToAttention(1, vector).first_block == 1
    assert Edits((AddVector(2, vector), SetHeads(((1, 0), (0, 2)), 0.0))).first_block == 0


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (Edits(()), "edits is empty"),
        (Edits((AddVector(1, torch.ones(40)), AddVector(3, torch.ones(40)))), "AddVector.layer=3 must be one of 0 to"),
        (Mix(1, "heads", 0.5), "Mix.part='heads' must be one of attention, mlp, residual"),
        (Mix(1, "mlp", 1), "Mix.scale is 1 and nothing is added"),
        (Mix(1, "mlp", torch.nan), "Mix.scale=nan must be a finite number"),
        (SetHeads(((0, 0),), 0.0, 0.0), "SetHeads.share=0.0 must be a finite number other than 0"),
        (
            SetHeads(((0, 0),), 0.0, torch.ones(2)),
            r"SetHeads.share has the shape \(2,\), where a number is due",
        ),
        (SetHeads(((0, 0),), 0.0, torch.zeros(1)), "SetHeads.share must be finite, and not 0 for every head"),
        (AddHeads(((0, 0), (0, 0)), 1.0), "AddHeads.heads names a head twice"),
        (AddHeads(((0, 0),), 0.0), "AddHeads.values are zero"),
        (AddToMLP(1, torch.zeros(40)), "AddToMLP.vector is zero"),
        (AddKeepingNorm(1, torch.ones(3)), r"AddKeepingNorm.vector has the shape \(3,\)"),
        (AddLinear(1, torch.ones(40, 3)), r"AddLinear.weight has the shape \(40, 3\), where \(40, 40\) is due"),
        (AddLinear(1, (torch.ones(40, 3), torch.ones(2, 40))), r"AddLinear.weight\[1\] has the shape \(2, 40\)"),
        (AddLinear(1, torch.zeros(40, 40)), "AddLinear.weight is zero and no vector is added"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused(edit: Edit, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        endless("llama").edited(edit)


def test_the_mlp_of_a_family_without_a_module_for_it_is_refused() -> None:
    lm = endless("opt")
    edit, said = AddToMLP(1, torch.ones(40)), "The spec opt names no module .* edit the residual stream"
    with pytest.raises(SpecError, match=said):
        lm.edited(edit)
    with pytest.raises(SpecError, match=said):
        make_engine(lm, "auto", 64).target_logprobs(prompts_of(lm, [3]), [edit])


# Edits from outside


@dataclass(frozen=True, eq=False, repr=False)
class Negated(Edit):
    """Negation of some hidden states: no more than an edit has to say."""

    layer: int
    part: str = "residual"

    @property
    def places(self) -> tuple[Place, ...]:
        return (Place(self.layer, Part(self.part)), Place(0, Part.mlp))

    def change(self, place: Place, hidden: Tensor) -> Tensor:
        return -hidden if place.part == self.part else 2 * hidden


@dataclass(frozen=True, eq=False, repr=False)
class AddTwice(AddVector):
    """An edit that changes one from here, and leaves the rest to it."""

    def change(self, place: Place, hidden: Tensor) -> Tensor:
        return hidden + 2 * self.vector.to(hidden)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_an_edit_from_outside_acts_on_every_engine_and_in_a_running_model(family: str, mode: str) -> None:
    lm = endless(family)
    one = vectors_of(lm)[0]
    engine, prompts = make_engine(lm, mode, 64), [p._replace(answer=(p.target, 7)) for p in prompts_of(lm, [5, 3])]
    mine: list[Edit] = [Negated(1), Edits((AddTwice(1, one), AddVector(1, one))), AddTwice(2, one)]
    same: list[Edit] = [
        Edits((Mix(1, "residual", -1.0), Mix(0, "mlp", 2.0))),
        AddVector(1, 3 * one),
        AddVector(2, 2 * one),
    ]
    for ask in (engine.target_logprobs, engine.divergences):
        torch.testing.assert_close(ask(prompts, mine), ask(prompts, same), rtol=1e-5, atol=TOLERANCE)
    for found, due in zip(engine.answers(prompts, mine), engine.answers(prompts, same), strict=True):
        torch.testing.assert_close(found.scores.logprob, due.scores.logprob, rtol=0, atol=TOLERANCE)
    ids = torch.tensor([prompts[0].token_ids])
    for one_edit, due_edit in zip(mine, same, strict=True):
        logits = []
        for edit in (one_edit, due_edit):
            with lm.edited(edit), torch.no_grad():
                logits.append(lm.model(ids).logits)
        torch.testing.assert_close(*logits, rtol=1e-5, atol=TOLERANCE)


@pytest.mark.parametrize("mode", MODES)
def test_it_may_act_on_heads(mode: str) -> None:
    lm = tiny("llama")
    engine, prompts = make_engine(lm, mode, 64), prompts_of(lm, [5, 3])
    every = tuple((1, head) for head in range(lm.n_heads))
    found = engine.target_logprobs(prompts, [Negated(1, "heads"), Negated(1)])
    own = engine.last_token(prompts).head_outputs
    for i, prompt in enumerate(prompts):
        doubled = engine.target_logprobs([prompt], [Edits((Mix(0, "mlp", 2.0), SetHeads(every, 0.0, 2.0)))])
        torch.testing.assert_close(found[i, :1], doubled[0], rtol=0, atol=TOLERANCE)
    assert own.shape[1:] == (lm.n_layers, lm.n_heads, lm.head_dim)


def test_it_is_checked_and_shown() -> None:
    lm = endless("llama")
    with pytest.raises(FvError, match=r"Negated\.layer=9 must be one of 0 to 2"):
        lm.edited(Negated(9))
    assert repr(Negated(1)) == "Negated(layer=1, part='residual')"
    assert Negated(1).words == "with Negated at the residual stream after block 1 and the MLP output of block 0"
    with pytest.raises(ConfigError, match="Negated has no strength"):
        Negated(1).scaled(2)


def test_the_public_face_has_every_edit() -> None:
    for kind in (AddHeads, AddKeepingNorm, AddLinear, AddToAttention, AddToMLP, Edits, Mix, Edit, Place, Part):
        assert getattr(fv, kind.__name__) is kind
