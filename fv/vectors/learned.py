"""Base of makers that are trained: an edit of prompts without examples, by gradient descent on -log p(answer).

The model is frozen. A training sees fit trials only: three quarters of their queries are trained on, and the others are
held aside to stop by. The target is the first token of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Gt

from fv.errors import ConfigError
from fv.seeding import generator_for
from fv.vectors.maker import FitTrials, Maker, Report

if TYPE_CHECKING:
    from torch import Tensor

    from fv.data.relations import Pair
    from fv.interventions.training import EditOf, Parameters, Trained, TrainingEngine
    from fv.models.prompt import Prompt
    from fv.vectors.options import Option

ASIDE = 4
"""One in so many queries is held aside."""
TRAINING = "training"
"""Name of the tensor of reports, (n_trainings, 3): the columns of `Report`."""


@dataclass
class LearnedMaker(Maker):
    """Base of makers that are trained; a subclass has its own `rate`."""

    steps: Annotated[int, Ge(1)] = 40
    """Most steps of Adam."""
    rate: Annotated[float, Gt(0)] = 0.05
    """Learning rate of Adam."""
    patience: Annotated[int, Ge(1)] = 5
    """Number of steps without a better mean log p on the queries held aside, after which training stops."""
    shuffled: bool = False
    """Give every query the answer of another one: a control that has nothing to learn but the relation's answers."""

    trains: ClassVar[bool] = True

    def depends_on(self, of: FitTrials) -> list[object]:
        return [[[prompt.token_ids, prompt.answer] for prompt in part] for part in self.prompts(of)]

    def prompts(self, of: FitTrials) -> tuple[list[Prompt], list[Prompt]]:
        """Prompts without examples to train on, and those held aside; each query of the fit trials once.

        Raises:
            ConfigError: the relation has fewer than two queries.
        """
        first: dict[Pair, Prompt] = {}
        for trial, prompt in zip(of.snapshot.of(of.q_id, "fit"), of.prompts("zero_shot"), strict=True):
            first.setdefault(trial.query, prompt)
        found = [*first.values()]
        if len(found) < 2:
            raise ConfigError(
                f"{self.label} needs fit trials of two queries of {of.q_id}, one to train on and one to stop by: give "
                "more trials, or leave this maker out."
            )
        if self.shuffled:
            found = _exchanged(found, of)
        n_aside = max(1, len(found) // ASIDE)
        return found[:-n_aside], found[-n_aside:]

    def trained(self, of: FitTrials, parameters: Parameters, edit_of: EditOf) -> Trained:
        """Train the parameters of an edit (`fv.interventions.training.TrainingEngine.trained`).

        Raises:
            ConfigError: the relation has fewer than two queries, or the engine cannot train.
        """
        from fv.interventions.training import Descent

        descent = Descent(self.steps, self.rate, self.patience)
        return self.engine(of).trained(*self.prompts(of), parameters, edit_of, descent)

    def engine(self, of: FitTrials) -> TrainingEngine:
        """The engine, if it can train.

        Raises:
            ConfigError: it cannot.
        """
        from fv.interventions.training import TrainingEngine

        if not isinstance(of.engine, TrainingEngine):
            raise ConfigError(f"{self.label} needs an engine that trains, which {type(of.engine).__name__} does not.")
        return of.engine

    def reports(self, tensors: Mapping[str, Tensor], option: Option) -> Report:
        return Report(*tensors[TRAINING][0].tolist())


def reported(trainings: Sequence[Trained]) -> Tensor:
    """The columns of `Report` for each training, (n_trainings, 3) float64."""
    import torch

    return torch.tensor([[each.n_steps, each.delta, each.aside_delta] for each in trainings], dtype=torch.float64)


def _exchanged(prompts: Sequence[Prompt], of: FitTrials) -> list[Prompt]:
    """The prompts, each with the answer of another one."""
    order = generator_for(of.seed, "shuffled answers", of.q_id).permutation(len(prompts)).tolist()
    answers = {taker: prompts[giver].answer for taker, giver in zip(order, [*order[1:], order[0]], strict=True)}
    return [prompt._replace(answer=answers[place], wrong=()) for place, prompt in enumerate(prompts)]
