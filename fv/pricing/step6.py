"""Price of Step6: the grid, the choice of cells on dev trials, the conditions on test trials, and their cost.

Providers make the conditions for the stand-in of a model (`fv.evaluation.candidates`), so conditions of installed
packages are counted as well. The cells that a run will choose are not known; here they are spread evenly.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

from fv.data.prompts import prompt_of
from fv.data.snapshot import Trial
from fv.evaluation.candidate import UNEDITED, At, Candidate, Injected, LayerVectors
from fv.evaluation.candidates import CandidatesOfRelations
from fv.evaluation.cells import weaker_cells
from fv.evaluation.cost import costing
from fv.evaluation.evaluation import has_choice
from fv.evaluation.grid import Scopes, eval_parts, eval_trials, qids_of
from fv.evaluation.held_out import KEPT_BYTES
from fv.evaluation.selection import DEV, TEST
from fv.evaluation.trial_rows import inject_vectors
from fv.heads.ranking import Ranking
from fv.interventions.edits import first_block
from fv.interventions.engine import Cell
from fv.models.prompt import Prompt
from fv.pricing.ledger import StagePrice
from fv.pricing.priced_engine import Entry
from fv.pricing.stand_in import StandInEffects
from fv.pricing.workload import Workload


def grid_stage(load: Workload, vectors: Scopes, step: str = "Step6") -> StagePrice:
    """Price vectors at every cell on eval trials (`fv.evaluation.grid.grid_flow`).

    In a run, a unit is one vector on one relation. Here all vectors of a relation form one unit, since they share the
    passes of its prompts.
    """
    stage, engine = StagePrice(step, "grid"), load.engine()
    for q_id in qids_of(vectors):
        trials = eval_trials(load.snapshot, q_id, load.n_eval)
        prompts = [prompt_of(load.lm, load.snapshot, trial, "zero_shot") for trial in trials]
        inject_vectors(engine, [vector for vector, on in vectors if q_id in on], prompts, load.cells, None)
        stage.take(engine, len(trials))
    return stage


@dataclass
class HeldOutStages:
    """Stages after the grid (`fv.evaluation.held_out` and `.cost`)."""

    choice: StagePrice
    own: StagePrice
    of_others: StagePrice
    cost: StagePrice

    @classmethod
    def none(cls) -> "HeldOutStages":
        """Stages without any units."""
        names = ("choice of cells", "test trials, own conditions", "test trials, of other relations", "cost")
        return cls(*(StagePrice("Step6", name) for name in names))

    @property
    def all(self) -> list[StagePrice]:
        """Stages that have units, in order."""
        return [stage for stage in (self.choice, self.own, self.of_others, self.cost) if stage.units]


def held_out_stages(load: Workload) -> HeldOutStages:
    """Price the stages after the grid."""
    stages, engine = HeldOutStages.none(), load.engine()
    qids = qids_of(load.vectors)
    choice = has_choice([vector for vector, _ in load.vectors], load.cells)
    dev_fraction = load.evaluation.dev_fraction if choice else 0.0
    parts = eval_parts(load.snapshot, qids, load.n_eval, dev_fraction, load.seed)
    makes, cells = _candidates(load), cycle(sorted(set(load.cells)))
    for q_id in qids:
        chosen = [(vector, next(cells)) for vector, on in load.vectors if q_id in on]
        own = _Parts.of(load, q_id, parts)
        with engine.keeping(KEPT_BYTES):
            every = makes.of(q_id, chosen)._asdict()
            for part, candidates in every.items():
                if own.dev:
                    for kind, entries in searches(candidates, load.cells, load.evaluation.controls.weaker):
                        engine.price_targets(prompts_of(load, own.dev, kind), entries)
                    stages.choice.take(engine, len(own.dev) if part == "own" else 0)
                entries_at = _entries(candidates, load.cells)
                for kind in dict.fromkeys(candidate.prompt for candidate in candidates):
                    here = [entries_at[i] for i, one in enumerate(candidates) if one.prompt == kind]
                    engine.price_answers(prompts_of(load, own.test, kind), here)
                getattr(stages, part).take(engine, len(own.test) if candidates else 0)
        for candidates in every.values():
            edited = costing(candidates)
            if load.texts and edited:
                texts = [Prompt(tuple(ids), (ids[-1],)) for ids in load.texts]
                engine.price_divergences(texts, _entries(edited, load.cells))
        stages.cost.take(engine, len(load.texts))
    return stages


def searches(
    candidates: Sequence[Candidate], cells: Sequence[Cell], weaker: Sequence[float]
) -> list[tuple[str, list[Entry]]]:
    """List every search for best cells (`fv.evaluation.condition.best_cells`).

    Each has its kind of prompt, and the blocks at which its rows enter.
    """
    grid = sorted(set(cells))
    every, found = weaker_cells(grid, weaker), []
    n_vectors: Counter[str] = Counter()
    for one in candidates:
        if isinstance(one.edit, Injected) and one.edit.at is At.own:
            n_vectors[one.prompt] += 1
        elif isinstance(one.edit, LayerVectors):
            shares = [layer for layer in sorted({cell.layer for cell in grid}) for _ in (1.0, *weaker)]
            layers = shares if one.edit.replaces else [cell.layer for cell in every]
            found.append((one.prompt, [None, *(layer + 1 for layer in layers)]))
    for kind, count in n_vectors.items():
        found.append((kind, [None, *(cell.layer + 1 for cell in every for _ in range(count))]))
    return found


def _entries(candidates: Sequence[Candidate], cells: Sequence[Cell]) -> list[Entry]:
    """Blocks at which the candidates' rows enter; choices of cells are spread evenly over the layers."""
    layers = cycle(sorted({cell.layer for cell in cells}))
    entries: list[Entry] = []
    for candidate in candidates:
        edit = candidate.edit
        if isinstance(edit, LayerVectors) or (isinstance(edit, Injected) and edit.at is not At.given):
            entries.append(next(layers) + 1)
        elif isinstance(edit, Injected):
            entries.append(edit.cell.layer + 1)
        else:
            entries.append(None if edit is None else first_block(edit))
    return entries


@dataclass
class _Parts:
    """A relation's eval trials , divided into test and dev."""

    test: list[Trial]
    dev: list[Trial]

    @classmethod
    def of(cls, load: Workload, q_id: str, parts: Mapping[str, str]) -> "_Parts":
        trials = eval_trials(load.snapshot, q_id, load.n_eval)
        return cls(*([trial for trial in trials if parts[trial.trial_id] == part] for part in (TEST, DEV)))


def prompts_of(load: Workload, trials: Sequence[Trial], kind: str) -> list[Prompt]:
    """Prompts of the trials, of one kind."""
    assert kind in UNEDITED.values()
    return [prompt_of(load.lm, load.snapshot, trial, kind) for trial in trials]


def _candidates(load: Workload) -> CandidatesOfRelations:
    effects = StandInEffects.of_heads(load.lm, load.snapshot, load.heads)
    ranking = Ranking(load.score.key.value, load.score.k, load.score.aie_leave_one_out)
    every = sorted(set(load.cells))
    return CandidatesOfRelations(load.evaluation, load.alpha_unit, load.seed, load.lm, effects, ranking, every)
