"""Price of the null: every draw measures heads and evaluates their vector (`fv.evaluation.null`)."""

from dataclasses import replace

from fv.config import Screen
from fv.evaluation.grid import qids_of
from fv.evaluation.null import NullDraws
from fv.pricing.evaluation import evaluation_of
from fv.pricing.ledger import Pricing, StagePrice, UnitPrice
from fv.pricing.operations import total
from fv.pricing.stepd import n_verified, verifying
from fv.pricing.workload import Workload


def null_stage(load: Workload) -> StagePrice:
    """Price every draw of the null, one unit each."""
    stage = StagePrice("null", "units")
    qids = qids_of(load.vectors)
    drawn = [qids[i % len(qids)] for i in range(load.null_draws)]
    prices = {q_id: _draw(load, q_id) for q_id in dict.fromkeys(drawn)}
    for q_id in drawn:
        stage.add(prices[q_id], len(load.snapshot.of(q_id, load.snapshot.eval_split, load.n_eval)))
    return stage


def _draw(load: Workload, q_id: str) -> UnitPrice:
    """Price one draw of a relation: heads, the grid of its vector, and its conditions on test trials."""
    one = replace(load, snapshot=load.snapshot.only([q_id]))
    pricing = Pricing(load.engine())
    evaluation = evaluation_of(load, pricing.engine)
    parts = evaluation.parts(load.vectors, load.cells, load.n_eval)
    score = replace(load.score, screen=Screen.none, adaptive=False)
    if load.null_screened:
        score = verifying(one, n_verified(one))  # as many heads as a screened run
    draws = NullDraws(
        evaluation, load.cells, parts, load.heads, score, load.n_eval, load.n_mean_trials, load.null_screened
    )
    pricing.run(draws.flow(q_id, 0), "null")
    return UnitPrice(total([stage.work for stage in pricing.stages]), max(stage.peak for stage in pricing.stages))
