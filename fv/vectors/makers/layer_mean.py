"""Layer mean: the task vector of Hendel et al. (2023), the mean residual stream of few-shot prompts after a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from fv.vectors.maker import FitTrials, Maker, States, first_cell

if TYPE_CHECKING:
    from torch import Tensor

    from fv.models.prompt import Prompt
    from fv.progress import Advance
    from fv.vectors.options import Options

DUMMY = "dummy"


class Query(StrEnum):
    """Query of the prompts that are averaged."""

    own = "own"
    """Each fit trial's own query."""
    dummy = "dummy"
    """The query of another fit trial, as in the paper, so that the vector holds nothing of the query."""


class Use(StrEnum):
    """Use of the mean."""

    replaced = "replaced"
    """The residual stream is replaced by it, as in the paper."""
    added = "added"
    """It is added to the residual stream."""


@dataclass
class LayerMean(Maker):
    """mean(clean) of the residual stream after a layer, which replaces the stream there or is added to it."""

    use: Use = Use.replaced
    """The residual stream is `replaced` by the mean, or the mean is `added` to it."""
    query: Query = Query.own
    """Query of the averaged prompts: each trial's `own`, or a `dummy` query of another trial (Hendel et al. 2023)."""

    label: ClassVar[str] = "layer mean"
    source: ClassVar[str] = "Hendel et al. 2023"

    def more_prompts(self, of: FitTrials) -> Mapping[str, Sequence[Prompt]]:
        from fv.data.templates import render
        from fv.models.prompt import Prompt

        if self.query is Query.own:
            return {}
        trials, template = of.snapshot.of(of.q_id, "fit"), of.snapshot.template
        found = []
        for i, trial in enumerate(trials):
            # The next trial's query; its own demonstrations may show it, as in the paper's set-up.
            dummy = trials[(i + 1) % len(trials)].query.exA
            text = render(template, trial.demos, dummy)
            name = f"the prompt of the trial {trial.trial_id} with a dummy query"
            found.append(Prompt(of.encoded(text), tuple(of.lm.known(trial.target_token_ids)), name=name))
        return {DUMMY: found}

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        from fv.heads.activations import mean_over_prompts

        own = self.query is Query.own
        # (n_prompts, n_layers, d_model) -> (n_layers, d_model)
        return {"vectors": of.means.residual if own else mean_over_prompts(states[DUMMY].residual)}

    def options(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> Options:
        from fv.interventions.engine import Cell
        from fv.vectors.options import LayerVectors

        replaces = self.use is Use.replaced
        shares = [Cell(layer, share) for layer in of.layers for share in of.shares]
        first = first_cell(of)
        if replaces:
            return LayerVectors(tensors["vectors"], Cell(first.layer, 1.0), shares, replaces=True)
        return LayerVectors(tensors["vectors"], first, of.cells)
