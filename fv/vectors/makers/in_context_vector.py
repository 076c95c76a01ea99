"""In-context vector: the main direction from inputs to outputs, at every layer (Liu et al. 2023, arXiv 2311.06668)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from fv.vectors.maker import FitTrials, Maker, States

if TYPE_CHECKING:
    from torch import Tensor

    from fv.models.prompt import Prompt
    from fv.progress import Advance
    from fv.vectors.options import Options

INPUTS, OUTPUTS = "inputs", "outputs"


@dataclass
class InContextVector(Maker):
    """First principal component of h(output) − h(input) over pairs, with h at all layers; the stream keeps its norm.

    h is the residual stream at the last token of an input or output alone. A layer's part of the component, relative
    to the stream's mean norm there, is added after that layer, and the stream is rescaled to its own norm.
    """

    alphas: list[float] = field(default_factory=lambda: [0.0125, 0.025, 0.05, 0.1, 0.2])
    """Strengths that dev trials choose among, relative to the stream's norm."""

    label: ClassVar[str] = "in-context vector"
    source: ClassVar[str] = "Liu et al. 2023"

    def more_prompts(self, of: FitTrials) -> Mapping[str, Sequence[Prompt]]:
        from fv.models.prompt import Prompt

        pairs = list(dict.fromkeys(trial.query for trial in of.snapshot.of(of.q_id, "fit")))
        # Nothing is scored, so any token serves as the answer.
        texts = {INPUTS: [pair.exA for pair in pairs], OUTPUTS: [pair.exB for pair in pairs]}
        return {
            side: [Prompt(ids := of.encoded(text), ids[-1:], name=f"{text!r} of {of.q_id}, alone") for text in every]
            for side, every in texts.items()
        }

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        import torch

        # (n_pairs, n_layers * d_model)
        change = (states[OUTPUTS].residual.double() - states[INPUTS].residual.double()).flatten(1).cpu()
        mean = change.mean(0)
        # The principal component, by the Gram matrix of the pairs: (n_pairs, n_pairs)
        centred = change - mean
        strongest = torch.linalg.eigh(centred @ centred.T).eigenvectors[:, -1]
        direction = centred.T @ strongest
        if not direction.any():  # a single pair has no component
            direction = mean
        direction = direction * torch.sign(direction @ mean + torch.finfo(mean.dtype).tiny)
        by_layer = direction.view(of.lm.n_layers, of.lm.d_model)
        lengths = by_layer.norm(dim=1, keepdim=True).clamp_min(torch.finfo(mean.dtype).tiny)
        return {"directions": (by_layer / lengths).to(of.means.residual.dtype)}

    def options(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> Options:
        from fv.interventions.edits import AddKeepingNorm, Edits
        from fv.vectors.options import Scaled

        vectors = of.means.residual_norm[:, None] * tensors["directions"]  # (n_layers, d_model)
        every = Edits(tuple(AddKeepingNorm(layer, vectors[layer]) for layer in range(of.lm.n_layers)))
        return Scaled(every, self.alphas[0], tuple(self.alphas))

    def n_fitted(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> int:
        return tensors["directions"].numel()
