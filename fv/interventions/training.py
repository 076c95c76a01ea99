"""Training of an edit of the last token, by gradient descent on -log p(target); the model is frozen.

An engine offers `TrainingEngine.trained`. It runs the prompts once; each step then runs only their last tokens, from
the first block that the edit changes on, with a graph. Prompts that are held aside decide when training stops, and
which step's parameters are kept.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from fv.errors import ConfigError, NotFiniteError
from fv.interventions.edit import Edit, LastTokenEdit
from fv.interventions.engine import Engine
from fv.models.prompt import Prompt

Parameters = Mapping[str, Tensor]
"""Floating-point tensors by name."""
EditOf = Callable[[Parameters], Edit]
"""A differentiable function that makes an edit of parameters; it may be called several times per step."""


class Descent(NamedTuple):
    """Settings of a training by Adam (Kingma and Ba 2015), with its default decay rates.

    Attributes:
        steps: most steps.
        rate: the learning rate.
        patience: number of steps without a better mean log p on the prompts held aside, after which training stops.
    """

    steps: int = 40
    rate: float = 0.05
    patience: int = 5


class Trained(NamedTuple):
    """Result of a training.

    Attributes:
        parameters: the parameters with the highest mean log p on the prompts held aside, on the CPU.
        n_steps: the number of steps after which they were found; 0 if no step was better than the start.
        unedited: log p(target) without an edit of each prompt that was trained on, and then of each one held aside,
            (n_prompts,) float64.
        logprobs: the same under the edit before the first step and after each step, (1 + steps that ran, n_prompts).
        n_aside: number of prompts held aside.
    """

    parameters: dict[str, Tensor]
    n_steps: int
    unedited: Tensor
    logprobs: Tensor
    n_aside: int

    @property
    def delta(self) -> float:
        """Mean log p(target) under the kept edit minus that without an edit, over the prompts that were trained on."""
        return float(self._change[: -self.n_aside].mean())

    @property
    def aside_delta(self) -> float:
        """Mean of this difference over the prompts held aside."""
        return float(self._change[-self.n_aside :].mean())

    @property
    def _change(self) -> Tensor:
        return self.logprobs[self.n_steps] - self.unedited


@runtime_checkable
class TrainingEngine(Engine, Protocol):
    """An engine that can also train an edit, and read the outputs of parts of blocks."""

    def trained(
        self,
        prompts: Sequence[Prompt],
        aside: Sequence[Prompt],
        parameters: Parameters,
        edit_of: EditOf,
        descent: Descent,
    ) -> Trained:
        """Train the parameters of an edit, so that the mean log p(target) of the prompts rises.

        Args:
            prompts: the prompts that are trained on.
            aside: prompts that are held aside, to stop by.
            parameters: the initial parameters.
            edit_of: makes the edit of parameters.
            descent: settings of the training.

        Raises:
            ConfigError: there are no prompts, or none held aside.
            ModelError: the model is being edited, or has quantised weights on a CPU.
            NotFiniteError: training made numbers that are not finite.
        """
        ...

    def part_outputs(self, prompts: Sequence[Prompt], part: str) -> Tensor:
        """Outputs of a part of every block at the last token, unedited: (n_prompts, n_layers, d_model) on the CPU.

        Args:
            prompts: the prompts.
            part: `attention` or `mlp` (`fv.interventions.place.Part`).

        Raises:
            SpecError: the family of the model has no module whose output is that of its MLP.
        """
        ...


class Slopes(NamedTuple):
    """Log probabilities with a gradient.

    Attributes:
        logprobs: log p(target) of each prompt, (n_prompts,) float64.
        gradients: the gradient of their weighted sum, for each parameter.
    """

    logprobs: Tensor
    gradients: list[Tensor]


class Objective(Protocol):
    """log p(target) of some prompts as a function of the edit of their last token."""

    def logprobs(self, edit: LastTokenEdit) -> Tensor:
        """log p(target) of each prompt, (n_prompts,) float64, without a graph."""
        ...

    def slopes(self, edit_of: EditOf, parameters: Parameters, weights: Tensor) -> Slopes:
        """log p(target) of each prompt under an edit, and the parameters' gradients of its sum with `weights`."""
        ...


def check_prompts(prompts: Sequence[Prompt], aside: Sequence[Prompt]) -> None:
    """Refuse a training without prompts.

    Raises:
        ConfigError: there are no prompts to train on, or to hold aside.
    """
    if not prompts or not aside:
        lacking = "held aside, to stop by" if prompts else "to train on"
        raise ConfigError(f"There are no prompts {lacking}: give at least one.")


def train(objective: Objective, n_prompts: int, parameters: Parameters, edit_of: EditOf, descent: Descent) -> Trained:
    """Train the parameters of an edit.

    Args:
        objective: the prompts that are trained on, and after them those held aside.
        n_prompts: number of prompts that are trained on.
        parameters: the initial parameters.
        edit_of: makes the edit of parameters.
        descent: settings of the training.

    Raises:
        NotFiniteError: log p is not finite after a step.
    """
    now = {name: _own(value) for name, value in parameters.items()}
    unedited = objective.logprobs(None)
    weights = torch.zeros_like(unedited)
    weights[:n_prompts] = -1 / n_prompts
    optimiser = torch.optim.Adam(now.values(), lr=descent.rate)
    path: list[Tensor] = []
    best, n_steps, highest = now, 0, -torch.inf
    for step in range(descent.steps + 1):
        is_last = step == descent.steps
        found = Slopes(objective.logprobs(edit_of(now)), []) if is_last else objective.slopes(edit_of, now, weights)
        path.append(found.logprobs)
        if not found.logprobs.isfinite().all():
            raise NotFiniteError(f"log p is not finite after {step} steps of training: use a smaller rate.")
        if (mean := float(found.logprobs[n_prompts:].mean())) > highest:
            best, n_steps, highest = {name: value.detach().clone() for name, value in now.items()}, step, mean
        if is_last or step - n_steps >= descent.patience:
            break
        for value, gradient in zip(now.values(), found.gradients, strict=True):
            value.grad = gradient
        optimiser.step()
    return Trained(best, n_steps, unedited, torch.stack(path), len(unedited) - n_prompts)


def _own(value: Tensor) -> Tensor:
    """A copy of an initial parameter, on the CPU, in float32 or wider."""
    exact = torch.promote_types(value.dtype, torch.float32)
    return value.detach().to("cpu", exact, copy=True).requires_grad_()
