"""Linear task vector: the demonstrations' effect as a linear map of the stream without them (arXiv 2605.20730)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from fv.vectors.maker import FitTrials, Maker, States, first_cell

if TYPE_CHECKING:
    from torch import Tensor

    from fv.progress import Advance
    from fv.vectors.options import Options


@dataclass
class LinearVector(Maker):
    """W (h − mean(h)) + mean(shift), added to the residual stream h of a prompt without examples after a layer.

    The shift is the stream of the few-shot prompt minus that of the prompt without examples of the same query. W is
    fitted over the fit trials by ridge regression, in closed form.
    """

    ridge: Annotated[float, Gt(0)] = 1.0
    """Strength of the ridge penalty, relative to the mean squared norm of the centred stream."""

    label: ClassVar[str] = "linear task vector"
    source: ClassVar[str] = "Kwon et al. 2026"
    states: ClassVar[tuple[str, ...]] = ("clean", "zero_shot")

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        import torch

        without = states["zero_shot"].residual.double().cpu().transpose(0, 1)  # (n_layers, n_prompts, d_model)
        shift = states["clean"].residual.double().cpu().transpose(0, 1) - without
        mean, mean_shift = without.mean(1), shift.mean(1)  # (n_layers, d_model)
        centred = without - mean[:, None]
        # W = shiftᵀ (K + λ)⁻¹ centred, with K the Gram matrix of the prompts: no matrix of (d_model, d_model) is made.
        gram = centred @ centred.transpose(1, 2)  # (n_layers, n_prompts, n_prompts)
        level = gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(gram.dtype).tiny)
        penalty = self.ridge * level[:, None, None] * torch.eye(gram.shape[1], dtype=gram.dtype)
        down = torch.linalg.solve(gram + penalty, centred)  # (n_layers, n_prompts, d_model)
        up = (shift - mean_shift[:, None]).transpose(1, 2)  # (n_layers, d_model, n_prompts)
        added = mean_shift - (up @ (down @ mean[:, :, None]))[..., 0]
        dtype = of.means.residual.dtype
        return {"up": up.to(dtype), "down": down.to(dtype), "added": added.to(dtype)}

    def options(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> Options:
        from fv.interventions.edits import AddLinear
        from fv.vectors.edit_at_layer import EditAtLayer

        up, down, added = tensors["up"], tensors["down"], tensors["added"]
        each = tuple(AddLinear(i, (up[i], down[i]), added[i]) for i in range(of.lm.n_layers))
        return EditAtLayer(each, first_cell(of), of.cells)

    def n_fitted(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> int:
        return sum(part[0].numel() for part in tensors.values())
