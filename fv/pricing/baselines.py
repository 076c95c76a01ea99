"""Price of a comparison of makers: its flow, on an engine that only counts (`fv.evaluation.baselines`)."""

from fv.evaluation.baselines import Baselines
from fv.evaluation.grid import qids_of
from fv.pricing.evaluation import evaluation_of
from fv.pricing.ledger import Pricing, StagePrice
from fv.pricing.workload import Workload


def baseline_stages(load: Workload) -> list[StagePrice]:
    """Price making every relation's vectors, choosing their options, and running them; empty if none are compared.

    The engine's scores are random, so half of a maker's options seem to do good, and the first that is tried lies
    within the budget of harm as often as chance has it.
    """
    compared = load.compared
    if compared is None:
        return []
    pricing = Pricing(load.engine())
    evaluation = evaluation_of(load, pricing.engine)
    parts = evaluation.parts(load.vectors, load.cells, load.n_eval)
    run = Baselines(evaluation, compared.makers, load.cells, parts, compared.texts, compared.budget)
    pricing.run(run.flow(qids_of(load.vectors)), "baselines")
    return pricing.stages
