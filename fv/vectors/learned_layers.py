"""Base of makers that train one vector for each of a few layers, of which dev trials choose one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from fv.errors import ConfigError
from fv.vectors.learned import TRAINING, LearnedMaker, reported
from fv.vectors.maker import FitTrials, Report, States

if TYPE_CHECKING:
    from torch import Tensor

    from fv.interventions.edit import Edit
    from fv.interventions.training import Parameters
    from fv.progress import Advance
    from fv.vectors.options import Option, Options

    VectorOf = Callable[[Parameters], Tensor]

WEIGHTS = "weights"


@dataclass
class LearnedAtLayers(LearnedMaker):
    """Base of makers that train a vector at each of a few layers, one after the other."""

    depths: list[float] = field(default_factory=lambda: [0.2, 0.4, 0.6, 0.8])
    """Places of the trained layers among the layers of the run's cells, from 0 for the first to 1 for the last."""

    def validate(self) -> None:
        super().validate()
        if not self.depths or not all(0 <= depth <= 1 for depth in self.depths):
            raise ConfigError(f"{self.called('depths')}={self.depths!r} must be numbers from 0 to 1, such as [0.5].")

    def start(self, of: FitTrials, layer: int) -> Tensor:
        """Initial weights at a layer, (n_weights,)."""
        raise NotImplementedError

    def directions(self, of: FitTrials, layer: int) -> Tensor:
        """Matrix that weights are multiplied with, (n_weights, d_model); or a factor, (), on one weight per entry."""
        raise NotImplementedError

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        import torch

        from fv.interventions.edits import AddVector

        layers = self.layers(of)
        vectors, trainings = [], []
        for layer in layers:
            vector_of = partial(_vector, self.directions(of, layer))

            def edit_of(parameters: Parameters, layer: int = layer, vector_of: VectorOf = vector_of) -> Edit:
                return AddVector(layer, vector_of(parameters))

            found = self.trained(of, {WEIGHTS: self.start(of, layer)}, edit_of)
            vectors.append(vector_of(found.parameters))
            trainings.append(found)
        return {
            "layers": torch.tensor(layers),
            "vectors": torch.stack(vectors),  # (n_trained, d_model)
            "n_weights": torch.tensor([each.parameters[WEIGHTS].numel() for each in trainings]),
            TRAINING: reported(trainings),
        }

    def layers(self, of: FitTrials) -> list[int]:
        """The trained layers, ascending.

        Raises:
            ConfigError: the run has no cells.
        """
        if not of.layers:
            raise ConfigError("There is no cell to inject at: give at least one layer and one alpha.")
        return sorted({of.layers[round(depth * (len(of.layers) - 1))] for depth in self.depths})

    def options(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> Options:
        from fv.interventions.edits import AddVector
        from fv.interventions.engine import Cell
        from fv.vectors.edit_at_layer import EditAtLayer

        layers: Sequence[int] = tensors["layers"].tolist()
        edits = {layer: AddVector(layer, vector) for layer, vector in zip(layers, tensors["vectors"], strict=True)}
        best = layers[int(tensors[TRAINING][:, Report._fields.index("aside_delta_logprob")].argmax())]
        each = tuple(edits.get(layer) for layer in range(of.lm.n_layers))
        return EditAtLayer(each, Cell(best, 1.0), [Cell(layer, 1.0) for layer in layers])

    def n_fitted(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> int:
        return int(tensors["n_weights"].max())

    def reports(self, tensors: Mapping[str, Tensor], option: Option) -> Report:
        place = tensors["layers"].tolist().index(option.layer)
        return Report(*tensors[TRAINING][place].tolist())


def _vector(directions: Tensor, parameters: Parameters) -> Tensor:
    """The vector of weights, (d_model,)."""
    weights = parameters[WEIGHTS]
    return weights @ directions if directions.ndim else weights * directions
