"""Price of the null: StepD and Step6 of one relation, once per draw (`fv.evaluation.null`)."""

from dataclasses import replace

from fv.evaluation.grid import qids_of
from fv.pricing.ledger import StagePrice, UnitPrice
from fv.pricing.operations import total
from fv.pricing.step6 import grid_stage, held_out_stages
from fv.pricing.stepd import EXACT, SCREENED, stepd_stages
from fv.pricing.workload import Workload


def null_stage(load: Workload) -> StagePrice:
    """Price every draw of the null, one unit each."""
    stage = StagePrice("Step6", "null")
    qids = qids_of(load.vectors)
    drawn = [qids[i % len(qids)] for i in range(load.null_draws)]
    prices = {q_id: _draw(load, q_id) for q_id in dict.fromkeys(drawn)}
    for q_id in drawn:
        stage.add(prices[q_id], len(load.snapshot.of(q_id, load.snapshot.eval_split, load.n_eval)))
    return stage


def _draw(load: Workload, q_id: str) -> UnitPrice:
    """Price one draw of a relation: heads, the grid of its vector, and its conditions on test trials."""
    on = [vector for vector, on in load.vectors if q_id in on]
    own = next((vector for vector in on if vector.source_qid == q_id), on[0])
    one = replace(load, snapshot=load.snapshot.only([q_id]), vectors=[(own, [q_id])], texts=(), null_draws=0)
    way = SCREENED if load.null_screened else EXACT
    stages = [stage for stage in stepd_stages(one) if stage.only in ("", way)]
    stages += [grid_stage(one, one.vectors), *held_out_stages(one).all]
    return UnitPrice(total([stage.work for stage in stages]), max(stage.peak for stage in stages))
