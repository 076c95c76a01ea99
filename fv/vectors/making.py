"""Making of vectors: a flow that runs the prompts of makers, then the makers, each as units that are kept."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fv.config.group import plain
from fv.models.prompt import Prompt
from fv.progress import Advance
from fv.vectors.maker import FitTrials, Maker, States
from fv.vectors.options import Options
from fv.work.flow import Flow, Job, Unit, groups
from fv.work.store import Arrays, UnitName, array_of

Key = tuple[str, str]
"""A relation and a maker."""


class Made(NamedTuple):
    """Result of a maker for one relation.

    Attributes:
        options: the options that dev trials choose among.
        tensors: the tensors that it computed, on the CPU.
        n_fitted: number of values in an edit that were fitted; 0 if all are means.
    """

    options: Options
    tensors: dict[str, Tensor]
    n_fitted: int


def made(makers: Mapping[str, Maker], relations: Mapping[str, FitTrials]) -> Flow[dict[Key, Made]]:
    """Make every relation's options by every maker.

    Args:
        makers: {name: maker}.
        relations: {relation: its fit trials}.

    Returns:
        {(relation, name of the maker): result}.
    """
    inputs = {
        (q_id, name): _inputs(name, maker, of) for q_id, of in relations.items() for name, maker in makers.items()
    }
    # Makers share the states of the same prompts.
    due = {(q_id, one.state): one.prompts for (q_id, _), every in inputs.items() for one in every}
    jobs = [[_states_job(relations[q_id], state, prompts)] for (q_id, state), prompts in due.items()]
    found = yield from groups("states", jobs)
    states = {key: _states(arrays) for key, ((arrays,),) in zip(due, found, strict=True)}

    def of_maker(key: Key) -> dict[str, States]:
        return {one.name: states[key[0], one.state] for one in inputs[key]}

    jobs = [[_maker_job(key, makers[key[1]], relations[key[0]], every, of_maker(key))] for key, every in inputs.items()]
    results = yield from groups("makers", jobs)
    return {
        (q_id, name): _made(makers[name], relations[q_id], arrays)
        for (q_id, name), ((arrays,),) in zip(inputs, results, strict=True)
    }


class _Input(NamedTuple):
    """Prompts of a maker: by its own name for them, and by a name within the relation."""

    name: str
    state: str
    prompts: Sequence[Prompt]

    @property
    def content(self) -> list[object]:
        return [self.name, [prompt.token_ids for prompt in self.prompts]]


def _inputs(name: str, maker: Maker, of: FitTrials) -> list[_Input]:
    shared = [_Input(kind, kind, of.prompts(kind)) for kind in maker.states]
    return [*shared, *(_Input(own, f"{name} {own}", these) for own, these in maker.more_prompts(of).items())]


def _states_job(of: FitTrials, state: str, prompts: Sequence[Prompt]) -> Job:
    def compute(advance: Advance) -> Arrays:
        run = of.engine.last_token(prompts)
        advance(len(prompts))
        return {name: array_of(getattr(run, name)) for name in States._fields}

    ids = [prompt.token_ids for prompt in prompts]
    unit = Unit(UnitName("states", of.q_id, state), lambda: ids, len(prompts), sum(map(len, ids)))
    return Job.of(unit, compute)


def _states(arrays: Arrays) -> States:
    return States(*(torch.from_numpy(arrays[name]) for name in States._fields))


def _maker_job(key: Key, maker: Maker, of: FitTrials, inputs: Sequence[_Input], states: Mapping[str, States]) -> Job:
    q_id, name = key

    def depends_on() -> list[object]:
        content = of.content_of_all if maker.of_others else of.content
        return [plain(maker), content, [one.content for one in inputs], of.seed]

    def compute(advance: Advance) -> Arrays:
        tensors = maker.compute(of, states, advance)
        # Whole numbers, such as heads, stay whole.
        return {
            part: array_of(values) if values.is_floating_point() else values.numpy() for part, values in tensors.items()
        }

    return Job.of(Unit(UnitName("maker", q_id, name), depends_on, n_trials=1), compute)


def _made(maker: Maker, of: FitTrials, arrays: Arrays) -> Made:
    tensors = {part: torch.from_numpy(values) for part, values in arrays.items()}
    return Made(maker.options(of, tensors), tensors, maker.n_fitted(of, tensors))
