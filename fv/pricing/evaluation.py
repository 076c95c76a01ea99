"""Price of an evaluation: its flow, on an engine that only counts.

The engine's scores are random, so the chosen cells are spread evenly over the grid.
"""

from dataclasses import replace

import pandas as pd

from fv.data.origin import Origin
from fv.evaluation.evaluation import Evaluation
from fv.evaluation.grid import Scopes
from fv.heads.ranking import Ranking
from fv.pricing.ledger import Pricing, StagePrice
from fv.pricing.priced_engine import PricedEngine
from fv.pricing.stand_in import StandInEffects
from fv.pricing.workload import Workload
from fv.vectors.made_vector import injected_vector, relations_of
from fv.vectors.maker import FitTrials
from fv.vectors.making import made
from fv.vectors.vector import Vector


def evaluation_of(load: Workload, engine: PricedEngine) -> Evaluation:
    """Evaluation of a workload."""
    return Evaluation(
        lm=load.lm,
        engine=engine,
        snapshot=load.snapshot,
        settings=load.evaluation,
        ranking=Ranking.of(load.score),
        effects=StandInEffects.of_heads(load.lm, load.snapshot, load.heads),
        alpha_unit=load.alpha_unit,
        seed=load.seed,
    )


def grid_stages(load: Workload, vectors: Scopes, step: str) -> list[StagePrice]:
    """Price vectors at every cell, and nothing else."""
    pricing = Pricing(load.engine())
    flow = evaluation_of(load, pricing.engine).flow(vectors, load.cells, load.n_eval, held_out=False)
    pricing.run(flow, step)
    return pricing.stages


def evaluation_stages(load: Workload) -> list[StagePrice]:
    """Price the grid, the choice of cells, the conditions on test trials, and their cost on unrelated texts."""
    pricing = Pricing(load.engine())
    evaluation = evaluation_of(load, pricing.engine)
    scopes = _made(load, evaluation, pricing) if load.makers else load.vectors
    flow = evaluation.flow(scopes, load.cells, load.n_eval, held_out=load.evaluation.held_out)
    found, rows = pricing.run(flow, "Step6")
    if rows is None or not load.texts:
        return pricing.stages
    cost, trials = StagePrice("cost", "units"), pd.concat(rows.trials)
    for q_id in sorted(trials["eval_qid"].unique()):
        evaluation.costs(q_id, found.vectors, found.cells, trials, load.texts)
        cost.take(pricing.engine, len(load.texts))
    return [*pricing.stages, *([cost] if cost.units else [])]


def _made(load: Workload, evaluation: Evaluation, pricing: Pricing) -> Scopes:
    """Price the makers, and give their vectors the shape that they make.

    Raises:
        NoVectorError: a maker's edits are no injections of a vector.
    """
    assert evaluation.effects is not None
    fit = FitTrials(load.lm, pricing.engine, load.snapshot, "", evaluation.effects, evaluation.ranking, load.cells)
    qids = relations_of((vector for vector, _ in load.vectors), load.makers)
    results = pricing.run(made(load.makers, {q_id: replace(fit, q_id=q_id) for q_id in qids}), "Step6")
    origin = Origin.of(load.lm, load.snapshot)

    def shaped(vector: Vector) -> Vector:
        if vector.kind not in load.makers:
            return vector
        q_id = str(vector.source_qid)
        own = injected_vector(vector.kind, q_id, results[q_id, vector.kind].options, origin)
        return replace(vector, values=vector.values.expand_as(own.values)) if own.is_layered else vector

    return [(shaped(vector), qids) for vector, qids in load.vectors]
