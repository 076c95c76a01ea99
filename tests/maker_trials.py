"""Fit trials of a tiny model, and hidden states of its prompts by plain hooks, for tests of makers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import fv
from fv.heads.effects import Effects
from fv.heads.ranking import Ranking
from fv.interventions.engine import Cell
from fv.interventions.engines import make_engine
from fv.models.language_model import LanguageModel
from fv.vectors.maker import FitTrials, Maker
from fv.vectors.making import Made, made
from fv.work.driver import SERIAL

QUIET = fv.Compute(progress=False)
RELATIONS = {
    "antonym": [("hot", "cold"), ("big", "small"), ("up", "down"), ("wet", "dry"), ("old", "new"), ("far", "near")],
    "plural": [("cat", "cats"), ("dog", "dogs"), ("car", "cars"), ("tree", "trees"), ("cup", "cups"), ("pen", "pens")],
}
OUTSIDE = '''
from dataclasses import dataclass
from typing import ClassVar

from fv.vectors.maker import Maker, first_cell


@dataclass
class FirstPrompt(Maker):
    """Hidden states of the first clean prompt, added after a layer, times a factor of its own."""

    factor: float = 1.0

    label: ClassVar[str] = "first prompt"
    source: ClassVar[str] = "a package from outside"
    states: ClassVar[tuple[str, ...]] = ("clean",)

    def compute(self, of, states, advance):
        return {"vectors": self.factor * states["clean"].residual[0]}

    def options(self, of, tensors):
        from fv.vectors.options import LayerVectors

        return LayerVectors(tensors["vectors"], first_cell(of), of.cells)
'''
"""Module of a package that adds a maker."""
CELLS = [Cell(layer, alpha) for layer in (0, 1, 2) for alpha in (0.5, 1.0)]


def fit_trials(lm: LanguageModel, q_id: str = "antonym", mode: str = "auto", **changes: object) -> FitTrials:
    """Fit trials of a relation, with measured effects."""
    trials = fv.sample_trials(RELATIONS, lm, demos=2, fit=3, held_out=2, seed=3)
    effects = fv.indirect_effects(lm, trials, compute=QUIET)
    return trials_with(lm, trials, effects, q_id, mode, **changes)


def trials_with(
    lm: LanguageModel, trials: fv.Trials, effects: Effects, q_id: str, mode: str = "auto", **changes: object
) -> FitTrials:
    """Fit trials of a relation with these effects."""
    engine, ranking = make_engine(lm, mode, 64), Ranking("mean_delta_logprob", 3)
    given = {"cells": CELLS, "shares": (0.5, 1.0), "seed": 3} | changes
    return FitTrials(lm, engine, trials.snapshot, q_id, effects, ranking, **given)  # type: ignore[arg-type]


def made_by(maker: Maker, of: FitTrials) -> Made:
    """The result of one maker for one relation."""
    return SERIAL.run(made({"maker": maker}, {of.q_id: of}), "makers")[of.q_id, "maker"]


def streams_of(lm: LanguageModel, texts: Sequence[str]) -> Tensor:
    """Residual stream after each block at the last token of each text, by plain hooks: (n_texts, n_layers, d_model)."""
    return torch.stack([_read(lm, text, [(block, False) for block in lm.blocks]) for text in texts])


def head_outputs_of(lm: LanguageModel, texts: Sequence[str]) -> Tensor:
    """Head outputs at the last token of each text, by plain hooks: (n_texts, n_layers, n_heads, head_dim)."""
    found = torch.stack([_read(lm, text, [(module, True) for module in lm.out_projs]) for text in texts])
    return found.unflatten(-1, (lm.n_heads, lm.head_dim))


def _read(lm: LanguageModel, text: str, modules: Sequence[tuple[torch.nn.Module, bool]]) -> Tensor:
    """Input or output of modules at the last token, (n_modules, width)."""
    found: dict[int, Tensor] = {}
    handles = []
    for place, (module, is_input) in enumerate(modules):

        def note(_: object, given: tuple[Tensor, ...], put: Any, at: int = place, before: bool = is_input) -> None:
            value = given[0] if before else put[0] if isinstance(put, tuple) else put
            found[at] = value.reshape(-1, value.shape[-1])[-1]

        handles.append(module.register_forward_hook(note))
    with torch.no_grad():
        lm.model(input_ids=torch.tensor([lm.encode(text, add_special_tokens=False)]), use_cache=False)
    for handle in handles:
        handle.remove()
    return torch.stack([found[place] for place in range(len(modules))])
