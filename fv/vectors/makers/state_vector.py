"""State vector: head outputs at each demonstration, extrapolated over demonstrations (Li et al. 2024, arXiv
2404.11225)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Le

from fv.vectors.maker import FitTrials, Maker, States, first_cell

if TYPE_CHECKING:
    from torch import Tensor

    from fv.data.snapshot import Trial
    from fv.models.prompt import Prompt
    from fv.progress import Advance
    from fv.vectors.options import Options


@dataclass
class StateVector(Maker):
    """Mean of the states after the last demonstrations, plus a momentum over them, set in all heads up to a layer.

    s_i is the mean over prompts of all heads' outputs at the last token, with i demonstrations before it. The vector is
    mean(s_{n−last+1}, …, s_n) + step · Σ_i momentum^(n−i) · (s_i − s_{i−1}).
    """

    last: Annotated[int, Ge(1)] = 3
    """Number of the last states that are averaged."""
    momentum: Annotated[float, Ge(0), Le(1)] = 0.5
    """Factor by which each earlier change counts less."""
    step: Annotated[float, Ge(0)] = 0.1
    """Factor on the sum of changes; 0 for the average alone."""
    n_prompts: Annotated[int, Ge(1)] = 12
    """Number of fit trials whose demonstrations are used."""

    label: ClassVar[str] = "state vector"
    source: ClassVar[str] = "Li et al. 2024"

    def more_prompts(self, of: FitTrials) -> Mapping[str, Sequence[Prompt]]:
        from fv.data.templates import render
        from fv.models.prompt import Prompt

        template = of.snapshot.template

        def prompt(trial: Trial, n: int) -> Prompt:
            query, answer = (*trial.demos, trial.query)[n].exA, tuple(of.lm.known(trial.target_token_ids))
            text = render(template, trial.demos[:n], query)
            return Prompt(of.encoded(text), answer, name=f"the trial {trial.trial_id} up to demonstration {n + 1}")

        trials = of.snapshot.of(of.q_id, "fit", self.n_prompts)
        return {f"after_{n}": [prompt(trial, n) for trial in trials] for n in range(_n_demos(of) + 1)}

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        import torch

        n = _n_demos(of)
        # (1 + n_demos, n_layers, n_heads, head_dim)
        found = torch.stack([states[f"after_{i}"].head_outputs.double().mean(0).cpu() for i in range(n + 1)])
        weights = torch.tensor([self.momentum ** (n - i) for i in range(1, n + 1)], dtype=found.dtype)
        moved = torch.tensordot(weights, found[1:] - found[:-1], dims=1)
        # At least one demonstration precedes each averaged state.
        averaged = found[max(1, n + 1 - self.last) :].mean(0)
        return {"outputs": (averaged + self.step * moved).to(of.means.clean.dtype)}

    def options(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> Options:
        from fv.interventions.edits import SetHeads
        from fv.interventions.engine import Cell
        from fv.vectors.edit_at_layer import EditAtLayer

        def heads_up_to(layer: int) -> tuple[tuple[int, int], ...]:
            return tuple((below, head) for below in range(layer + 1) for head in range(of.lm.n_heads))

        each = tuple(SetHeads(heads_up_to(layer), tensors["outputs"]) for layer in range(of.lm.n_layers))
        cells = [Cell(layer, share) for layer in of.layers for share in of.shares]
        return EditAtLayer(each, Cell(first_cell(of).layer, 1.0), cells)


def _n_demos(of: FitTrials) -> int:
    return min(len(trial.demos) for trial in of.snapshot.of(of.q_id, "fit"))
