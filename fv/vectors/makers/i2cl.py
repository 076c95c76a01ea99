"""I2CL: attention and MLP outputs, mixed with context vectors by trained coefficients (arXiv 2405.14660)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from fv.errors import ConfigError
from fv.vectors.learned import TRAINING, LearnedMaker, reported
from fv.vectors.maker import FitTrials, States

if TYPE_CHECKING:
    from torch import Tensor

    from fv.interventions.edit import Edit
    from fv.models.prompt import Prompt
    from fv.progress import Advance
    from fv.vectors.options import Options

PARTS = ("attention", "mlp")
"""Parts of a block that are mixed."""
START = (1.0, 0.1)
"""Initial factors on a part's own output (β) and on its context vector (λ), as in the paper."""


@dataclass
class I2CL(LearnedMaker):
    """β · own output + λ · context vector, for attention and MLP of every layer in one pass, with trained β and λ.

    A context vector is the mean output of a part at the last token of a pair, over the pairs of the fit trials, each
    shown alone. The coefficients start at β = 1 and λ = 0.1, as in the paper. Unlike there, only the last token is
    edited, and the training has no noise, no weight decay, and a higher rate for fewer steps; it stops by queries held
    aside instead.
    """

    rate: Annotated[float, Gt(0)] = 0.05
    """Learning rate of Adam, for the coefficients."""

    label: ClassVar[str] = "implicit in-context learning"
    source: ClassVar[str] = "Li et al. 2024"

    def depends_on(self, of: FitTrials) -> list[object]:
        return [*super().depends_on(of), [prompt.token_ids for prompt in self.pairs(of)]]

    def pairs(self, of: FitTrials) -> list[Prompt]:
        """The pairs of the fit trials' queries, each shown alone with its answer."""
        from fv.data.templates import render, render_target
        from fv.models.prompt import Prompt

        template, found = of.snapshot.template, []
        for pair in dict.fromkeys(trial.query for trial in of.snapshot.of(of.q_id, "fit")):
            ids = of.encoded(render(template, [], pair.exA) + render_target(template, pair.exB))
            # Nothing is scored, so any token serves as the answer.
            found.append(Prompt(ids, ids[-1:], name=f"the pair {pair.exA!r} of {of.q_id}, alone"))
        return found

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        import torch

        from fv.heads.activations import mean_over_prompts

        if not of.lm.has_mlps:
            raise ConfigError(
                f"The maker i2cl mixes the outputs of MLPs, and the spec {of.lm.spec.name} names no module (mlp) whose "
                f"output is that of an MLP of {of.lm.name}: leave it out, or name one."
            )
        pairs = self.pairs(of)
        # (n_parts, n_layers, d_model)
        context = torch.stack([mean_over_prompts(self.engine(of).part_outputs(pairs, part)) for part in PARTS])
        start = torch.tensor(START).expand(len(PARTS), of.lm.n_layers, 2)
        found = self.trained(of, {"factors": start}, lambda p: _mixed(context, p["factors"]))
        return {"context": context, "factors": found.parameters["factors"], TRAINING: reported([found])}

    def options(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> Options:
        from fv.vectors.options import Scaled

        return Scaled(_mixed(tensors["context"], tensors["factors"]), among=(1.0,))

    def n_fitted(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> int:
        return tensors["factors"].numel()


def _mixed(context: Tensor, factors: Tensor) -> Edit:
    """Every part of every layer mixed with its context vector.

    Args:
        context: (n_parts, n_layers, d_model).
        factors: β and λ, (n_parts, n_layers, 2).
    """
    from fv.interventions.edits import Edits, Mix

    own, added = factors.unbind(-1)  # each (n_parts, n_layers)
    vectors = added[..., None] * context
    mixes = [
        Mix(layer, part, scale, vector)
        for part, scales, those in zip(PARTS, own.unbind(), vectors.unbind(), strict=True)
        for layer, (scale, vector) in enumerate(zip(scales.unbind(), those.unbind(), strict=True))
    ]
    return Edits(tuple(mixes))
