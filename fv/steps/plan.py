"""What a run would cost: reads settings, relations and a tokenizer, prints a price, and loads no weights."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from fv.analyses import analyses_of
from fv.analyses.cost import Cost
from fv.analyses.null import Null
from fv.config import Config
from fv.data.sampling import replay_snapshot, sample_snapshot
from fv.data.snapshot import Snapshot
from fv.errors import ModelError
from fv.evaluation.cells import grid
from fv.evaluation.cost import encoded_alike
from fv.evaluation.unrelated_texts import read_unrelated
from fv.heads.ranking import Ranking, heads_to_sweep
from fv.models.language_model import LanguageModel
from fv.pricing.priced_model import PricedModel, priced_model, priced_model_of
from fv.pricing.pricing import Processor, priced
from fv.pricing.shape import Shape
from fv.pricing.shape_facts import ready_shapes
from fv.pricing.stand_in import StandIn, StandInEffects, stand_in_values
from fv.pricing.stepd import screened_score
from fv.pricing.workload import Workload
from fv.runs.completeness import relations_asked
from fv.runs.injected import outlines_of, plan_of
from fv.steps.advice import with_settings
from fv.steps.choice import refuse_unfit_evaluation
from fv.steps.price_tables import print_price
from fv.vectors.file import read_vector
from fv.vectors.vector import Vector


@with_settings()
def run_plan(config: Config) -> None:
    """Print the price of the run that the pipeline would be.

    Raises:
        FvError: what the pipeline would refuse before it computes anything.
    """
    libraries = time.process_time()  # what this process has done so far is load them
    lm, notes = model_of(config)
    load = workload_of(config, lm)
    plan = config.plan
    processor = Processor(plan.tflops, plan.gb_per_s, plan.disk_gb_per_s, plan.workers, libraries)
    print_price(priced(load, processor, notes, config.injection.quick_eval))


def model_of(config: Config) -> PricedModel:
    """The shape that is priced.

    Raises:
        ModelError: nothing is known of it here.
    """
    if config.plan.shape is not None:
        return priced_model_of(config.plan.shape, config.compute, config.plan.called("shape"))
    try:
        return priced_model(config.model, config.compute)
    except ModelError as error:
        raise ModelError(
            f"{error} A plan needs no more than its config.json, in the folder model.path; or take one of the ready "
            f"shapes, plan.shape={'|'.join(ready_shapes())}."
        ) from error


def workload_of(config: Config, lm: LanguageModel) -> Workload:
    """What the pipeline would have to do; checks what it would check.

    Raises:
        FvError: what it would refuse.
    """
    snapshot = _snapshot(config, lm)
    score, injection = config.score, config.injection
    heads = heads_to_sweep(score.layers, score.heads, lm.n_layers, lm.n_heads, score.called)
    cells = grid(injection, lm.n_layers)
    if config.evaluation.held_out:
        refuse_unfit_evaluation(config, cells)
    stand_in = StandIn.of(lm)
    effects = StandInEffects.of_heads(stand_in, snapshot, heads)
    ranking = Ranking(score.key.value, score.k, score.aie_leave_one_out)
    effects.heads_of(None, ranking, score.k, name=score.called("k"))
    for k in injection.k or []:
        effects.heads_of(None, ranking, k, name=injection.called("k"))
    return Workload(
        lm=stand_in,
        shape=Shape.of(lm, config.model.quant),
        snapshot=snapshot,
        heads=heads,
        vectors=plan_of(config, snapshot, _vectors(config, lm, snapshot)),
        cells=cells,
        score=screened_score(score),
        evaluation=config.evaluation,
        alpha_unit=injection.alpha_unit,
        n_eval=injection.n_eval,
        texts=_texts(config, stand_in, snapshot),
        n_verified=config.plan.verified,
        n_mean_trials=config.data.n_mean_trials,
        **_null(config, len(heads)),
        compute=config.compute,
        seed=config.seed,
    )


def _snapshot(config: Config, lm: LanguageModel) -> Snapshot:
    """The trials that StepD would sample, or replay."""
    file = relations_asked(config)
    if file is None:
        return replay_snapshot(Path(str(config.data.fixed_trials_path)), config.data.qids, lm)
    special, name = config.model.add_special_tokens, config.model.called("add_special_tokens")
    return sample_snapshot(file, config.data, config.seed, lm, special, name)


def _vectors(config: Config, lm: LanguageModel, snapshot: Snapshot) -> list[Vector]:
    """The vectors that Step6 would inject, with values that only tell them apart."""
    if "file" in config.injection.fvs:
        read_vector(Path(str(config.injection.fv_path)), lm)
    found = []
    for number, outline in enumerate(outlines_of(config, snapshot)):
        k = None if outline.kind == "file" else outline.k or config.score.k
        found.append(replace(outline, values=stand_in_values(number), k=k))
    return found


def _null(config: Config, n_heads: int) -> dict[str, Any]:
    """How often the null would be drawn, and whether its heads would be screened."""
    null = analyses_of(config.analysis).get("null")
    if not isinstance(null, Null):
        return {}
    return {"null_draws": null.draws, "null_screened": null.is_screened(config.score, n_heads)}


def _texts(config: Config, lm: LanguageModel, snapshot: Snapshot) -> list[list[int]]:
    """The unrelated texts on which the cost of injections would be measured."""
    cost = analyses_of(config.analysis).get("cost")
    if not isinstance(cost, Cost) or not cost.n_texts:
        return []
    texts = read_unrelated(cost.n_texts, cost.texts_path)
    return encoded_alike(lm, texts, snapshot.meta.add_special_tokens)
