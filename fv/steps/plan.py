"""Plan: prints the price of a run from its settings, relations and tokenizer, without loading weights."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fv.analyses import Analysis, analyses_of
from fv.analyses.baselines import Baselines
from fv.analyses.cost import Cost
from fv.analyses.null import Null
from fv.config import ComputeConfig, Config, InjectionConfig, ModelConfig, PlanConfig
from fv.data.snapshot import Snapshot
from fv.errors import ModelError
from fv.evaluation.cells import grid
from fv.evaluation.cost import encoded_alike
from fv.evaluation.unrelated_texts import read_unrelated
from fv.heads.ranking import Ranking
from fv.models.language_model import LanguageModel
from fv.pricing.priced_model import PricedModel, priced_model, priced_model_of
from fv.pricing.pricing import Processor, priced
from fv.pricing.shape import Shape
from fv.pricing.shape_facts import ready_shapes
from fv.pricing.stand_in import StandIn, StandInEffects, stand_in_values
from fv.pricing.stepd import screened_score
from fv.pricing.workload import Compared, Workload
from fv.runs.completeness import requested_relations
from fv.runs.injected_vectors import outlines_of, plan_of
from fv.steps.evaluation_checks import refuse_unfit_evaluation
from fv.steps.price_tables import print_price
from fv.steps.remedies import with_remedies
from fv.steps.stepd import heads_of, trials_of
from fv.vectors.file import read_vector
from fv.vectors.kinds import HeadsBy
from fv.vectors.makers import injected_makers
from fv.vectors.vector import Vector


@with_remedies()
def run_plan(config: Config) -> None:
    """Print the price of running the pipeline with these settings.

    Raises:
        FvError: the pipeline would refuse the settings before it computes anything.
    """
    libraries = time.process_time()  # so far, this process has only loaded them
    plan = config.plan
    lm, notes = model_of(plan, config.model, config.compute)
    load = workload_of(config, lm)
    processor = Processor(plan.tflops, plan.gb_per_s, plan.disk_gb_per_s, plan.workers, libraries)
    print_price(priced(load, processor, notes, config.injection.quick_eval))


def model_of(plan: PlanConfig, model: ModelConfig, compute: ComputeConfig) -> PricedModel:
    """Make the model to price, which has a shape and no weights.

    Raises:
        ModelError: its shape is not known on this machine.
    """
    if plan.shape is not None:
        return priced_model_of(plan.shape, compute, plan.called("shape"))
    try:
        return priced_model(model, compute)
    except ModelError as error:
        raise ModelError(
            f"{error} A plan needs no more than its config.json, in the folder model.path; or take one of the ready "
            f"shapes, plan.shape={'|'.join(ready_shapes())}."
        ) from error


def workload_of(config: Config, lm: LanguageModel) -> Workload:
    """Make the workload of the pipeline, with the checks that the pipeline makes.

    Raises:
        FvError: the pipeline would refuse the settings.
    """
    snapshot = trials_of(config.data, config.model, config.seed, lm, requested_relations(config.data))
    score, injection, analyses = config.score, config.injection, analyses_of(config.analysis)
    heads, null = heads_of(score, lm), _null(analyses)
    cells = grid(injection, lm.n_layers)
    if config.evaluation.held_out:
        refuse_unfit_evaluation(config.evaluation, injection, analyses, cells)
    stand_in = StandIn.of(lm)
    effects = StandInEffects.of_heads(stand_in, snapshot, heads)
    ranking = Ranking.of(score)
    effects.heads_of(None, ranking, score.k, name=score.called("k"))
    for k in injection.k or []:
        effects.heads_of(None, ranking, k, name=injection.called("k"))
    return Workload(
        lm=stand_in,
        shape=Shape.of(lm, config.model.quant),
        snapshot=snapshot,
        heads=heads,
        vectors=plan_of(config.eval_scope, snapshot, _vectors(injection, score.k, lm, snapshot)),
        makers=injected_makers(injection),
        cells=cells,
        score=screened_score(score),
        evaluation=config.evaluation,
        alpha_unit=injection.alpha_unit,
        n_eval=injection.n_eval,
        texts=_texts(analyses, stand_in, snapshot),
        n_verified=config.plan.verified,
        n_mean_trials=config.data.n_mean_trials,
        null_draws=null.draws if null else 0,
        null_screened=null is not None and null.is_screened(score, len(heads)),
        compared=_compared(analyses, stand_in, snapshot),
        compute=config.compute,
        seed=config.seed,
    )


def _vectors(injection: InjectionConfig, k: int, lm: LanguageModel, snapshot: Snapshot) -> list[Vector]:
    """Make the vectors that Step6 would inject, with stand-in values, all different; StepE's have `k` heads."""
    layered = False
    if any(choice.from_file for choice in injection.choices):
        layered = read_vector(Path(str(injection.fv_path)), lm, layered=True).is_layered
    found = []
    for number, outline in enumerate(outlines_of(injection, snapshot)):
        heads = outline.k or k if outline.made_as.has_heads else None
        values = stand_in_values(number)
        is_file = outline.made_as.heads_by is HeadsBy.unknown
        values = values.expand(lm.n_layers, -1) if layered and is_file else values
        found.append(replace(outline, values=values, k=heads))
    return found


def _null(analyses: Mapping[str, Analysis]) -> Null | None:
    """The settings of the null, if it is requested."""
    null = analyses.get("null")
    return null if isinstance(null, Null) else None


def _compared(analyses: Mapping[str, Analysis], lm: LanguageModel, snapshot: Snapshot) -> Compared | None:
    """The comparison of makers, if it is requested."""
    found = analyses.get("baselines")
    if not isinstance(found, Baselines):
        return None
    texts = encoded_alike(lm, read_unrelated(found.n_texts, found.texts_path), snapshot.meta.add_special_tokens)
    return Compared(found.every_maker(), texts, found.budget)


def _texts(analyses: Mapping[str, Analysis], lm: LanguageModel, snapshot: Snapshot) -> list[list[int]]:
    """Encode the unrelated texts that the cost of injections would be measured on."""
    cost = analyses.get("cost")
    if not isinstance(cost, Cost) or not cost.n_texts:
        return []
    texts = read_unrelated(cost.n_texts, cost.texts_path)
    return encoded_alike(lm, texts, snapshot.meta.add_special_tokens)
