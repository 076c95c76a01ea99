"""Evaluation of vectors in memory on trials in memory: the public face of `fv.evaluation.evaluation`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from torch import Tensor

from fv.config import AlphaUnit, EvaluationConfig, StatsConfig
from fv.config.checks import check_at_least, parse_alphas, parse_indices
from fv.data.origin import Origin, check_origin
from fv.data.snapshot import Snapshot
from fv.data.trials import Trials
from fv.errors import ConfigError, one_of, shorten
from fv.evaluation.caveats import caveats
from fv.evaluation.conditions import condition_providers, only
from fv.evaluation.cost import encoded_alike
from fv.evaluation.evaluation import Evaluation, GridResults, has_choice
from fv.evaluation.held_out_results import HeldOutResults
from fv.evaluation.result import Result
from fv.evaluation.tables import cost_table
from fv.evaluation.unrelated_texts import N_TEXTS, read_unrelated
from fv.heads.effects import KEYS, Effects, HeadEffects, checked_key
from fv.heads.ranking import Ranking, choose_indices
from fv.heads.relations import snapshot_for
from fv.interventions.compute import DEFAULT, Compute, checked_compute
from fv.interventions.engine import Cell
from fv.models.language_model import LanguageModel
from fv.models.special_tokens import special_tokens_warning
from fv.progress import bars
from fv.tables import Tables
from fv.vectors.values import flaw_of
from fv.vectors.vector import Vector
from fv.work.driver import SERIAL

MADE_OF_EFFECTS = "Controls are computed from effects with this model's projections: measure effects with this model."


def evaluate(  # noqa: PLR0913 - each is a choice of its own
    lm: LanguageModel,
    vectors: Vector | Sequence[Vector],
    trials: Trials,
    *,
    layers: str | int | Sequence[int] = "all",
    alphas: float | Sequence[float] = 1.0,
    alpha_unit: str = "vector",
    controls: str | Sequence[str] | None = None,
    effects: Effects | HeadEffects | None = None,
    key: str = KEYS[0],
    dev_fraction: float = EvaluationConfig.dev_fraction,
    n_trials: int | None = None,
    n_unrelated: int = N_TEXTS,
    confidence: float = StatsConfig.confidence,
    seed: int | None = None,
    compute: Compute = DEFAULT,
) -> Result:
    """Inject vectors into prompts without examples, and measure their effect beside controls and baselines (spec 2).

    Every vector is injected into the held-out trials of every relation of `trials`, after every layer at every
    strength. One part of the trials, `dev`, chooses the cell; all numbers of the result come from the other part,
    `test`. The same dev trials choose a best cell for each control (docs/methods.md).

    Args:
        lm: the model.
        vectors: one vector or several.
        trials: trials of the relations to evaluate on: `trials`, or `trials["antonym"]`.
        layers: `all`, one block, or a list of blocks, after which the vector is added.
        alphas: one strength or several.
        alpha_unit: unit of alpha: `vector`, so that alpha is the factor on the vector; or `residual`, the mean norm of
            the residual stream at the layer, which is comparable across models and needs `effects`.
        controls: names of further conditions on the test trials, such as `["random_vector"]`; `all`; `[]` for only
            zero-shot and few-shot prompts; None for all that are possible with the given arguments.
        effects: effects from `fv.indirect_effects`. Most controls need them (random heads, other relations, layer
            means, ablations).
        key: the column that ranks the heads of other relations' vectors, which are controls; as in
            `fv.function_vector`.
        dev_fraction: the share of held-out trials that choose a cell; not used if there is a single cell.
        n_trials: maximum number of held-out trials per relation; None for all.
        n_unrelated: number of texts on which the cost of an injection is measured; 0 for none.
        confidence: level of the intervals.
        seed: seed of every draw; None for the seed of `trials`.
        compute: engine, memory and progress bars.

    Raises:
        ConfigError: an argument is out of range, a vector has another width than the model, a requested control is not
            possible, or the effects come from another model.
        TrialError: `trials` hold no held-out trials or too few to choose on, or were tokenised by another tokenizer.
        NotFiniteError: the model's output for a prompt is not finite; the message names the prompt and the number
            format.

    Warns:
        FvWarning: a vector comes from another model, or vectors or effects come from prompts of another form than the
            trials'.

    Example:
        >>> result = fv.evaluate(lm, vector, trials["antonym"], layers=[11, 17], alphas=[1, 2], controls=[])
        >>> list(result.table["condition"])
        ['zero_shot', 'few_shot', 'fv']
    """
    snapshot = snapshot_for(lm, trials, "eval")
    measured = effects.measured if isinstance(effects, HeadEffects) else effects
    if measured is not None and not isinstance(measured, Effects):
        raise ConfigError(f"effects is a {type(effects).__name__}; pass the effects that fv.indirect_effects returns.")
    if measured is not None and (lacking := sorted({*snapshot.qids} - {*measured.qids})):
        raise ConfigError(f"effects lack {shorten(lacking)}: measure all relations of the trials.")
    conditions = only(_conditions(controls, measured is not None))
    settings = EvaluationConfig(dev_fraction=dev_fraction, conditions=conditions)
    unit = one_of("alpha_unit", alpha_unit, AlphaUnit)
    given, foreign = checked_vectors(lm, vectors, snapshot)
    if measured is not None:
        foreign += check_origin("effects are", measured.origin, lm, snapshot, remedy=MADE_OF_EFFECTS)
    blocks = choose_indices(parse_indices("layers", layers), lm.n_layers, "layers")
    cells = [Cell(layer, alpha) for layer in blocks for alpha in parse_alphas("alphas", alphas)]
    if has_choice(given, cells) and not dev_fraction:
        raise ConfigError(f"dev_fraction=0 leaves no trials to choose one of {len(cells)} cells on.")
    texts = _texts(n_unrelated)
    evaluation = Evaluation(
        lm=lm,
        engine=checked_compute(compute).engine_for(lm),
        snapshot=snapshot,
        settings=settings,
        ranking=Ranking(checked_key(key), 10),
        effects=measured,
        alpha_unit=unit,
        stats=StatsConfig(confidence=confidence),
        seed=snapshot.meta.seed if seed is None else seed,
    )
    scopes = [(vector, snapshot.qids) for vector in given]
    evaluation.candidates(cells)  # refuses impossible conditions before anything runs
    with bars(compute.progress):
        found, rows = SERIAL.run(evaluation.flow(scopes, cells, n_trials), "Evaluation")
        assert rows is not None
        held_out = evaluation.results(found, rows)
    return Result(
        found.rows,
        held_out.trials,
        {**held_out.tables, **_costs(evaluation, found, held_out, texts), **evaluation.transfer(held_out, given)},
        (*foreign, *_special_tokens(lm, snapshot), *caveats(snapshot, measured, found.rows, given, evaluation.ranking)),
        _strengths(evaluation, given),
        evaluation.stats,
        evaluation.seed,
        Origin.of(lm, snapshot),
    )


def _special_tokens(lm: LanguageModel, snapshot: Snapshot) -> list[str]:
    """Warning about special tokens that the prompts lack, if there is one."""
    warning = special_tokens_warning(lm.tokenizer, snapshot.meta.add_special_tokens)
    return [warning] if warning else []


def _texts(n_unrelated: int) -> list[str]:
    check_at_least("n_unrelated", n_unrelated, 0)
    return read_unrelated(n_unrelated, names=("n_unrelated", "path"))


def _costs(evaluation: Evaluation, found: GridResults, held_out: HeldOutResults, texts: Sequence[str]) -> Tables:
    """Measure the table `injection_cost`, if there are texts."""
    if not texts:
        return {}
    trials, qids = held_out.trials, sorted(held_out.trials["eval_qid"].unique())
    ids = encoded_alike(evaluation.lm, texts, evaluation.snapshot.meta.add_special_tokens)
    costs = [evaluation.costs(q_id, found.vectors, found.cells, trials, ids) for q_id in qids]
    return {"injection_cost": cost_table(pd.concat(costs), trials, evaluation.stats, evaluation.seed)}


def checked_vectors(lm: LanguageModel, vectors: Any, snapshot: Snapshot) -> tuple[list[Vector], list[str]]:
    """Return the vectors as a list, with names that are unique, and the warnings about their origin.

    Raises:
        ConfigError: an item is not a vector of this model's width, or two vectors have the same name.
    """
    given = [vectors] if isinstance(vectors, Vector) else list(vectors) if isinstance(vectors, Sequence) else []
    if not given or not all(isinstance(vector, Vector) for vector in given):
        raise ConfigError(
            "vectors must be one or several Vectors, from fv.function_vector, fv.load_vector or fv.Vector.of."
        )
    sources = Counter(vector.source for vector in given)
    named = [replace(vector, of_several=vector.of_several or sources[vector.source] > 1) for vector in given]
    foreign = []
    for vector in named:
        if flaw_of(vector.values, lm.d_model, lm.n_layers, layered=True):
            raise ConfigError(
                f"The vector {vector.name} is {tuple(vector.values.shape)}, but {lm.name} takes ({lm.d_model},) of "
                f"finite numbers, or ({lm.n_layers}, {lm.d_model}), one vector per layer."
            )
        foreign += check_origin(f"The vector {vector.name} is", vector.origin, lm, snapshot)
    twins = [name for name, count in Counter(vector.name for vector in named).items() if count > 1]
    if twins:
        raise ConfigError(f"Two vectors are called {twins[0]}: give one of them another name (Vector.of) or another k.")
    return named, foreign


def _conditions(controls: Any, has_effects: bool) -> list[str]:
    """Names of the requested conditions."""
    providers = condition_providers()
    if controls is None:
        return [name for name, provider in providers.items() if has_effects or not provider.needs_effects]
    if isinstance(controls, str) and controls != "all":
        raise ConfigError(f"controls={controls!r} must be 'all', or a list of names: {', '.join(providers)}.")
    return list(providers) if isinstance(controls, str) else list(controls)


def _strengths(evaluation: Evaluation, vectors: Sequence[Vector]) -> dict[str, dict[str, list[float]]]:
    """{vector: {relation: factor on the vector at alpha 1, layer by layer}}; empty if alpha itself is the factor."""
    norms = evaluation.norms_of_alpha()
    if norms is None:
        return {}

    def factors(vector: Vector, norm: Tensor) -> list[float]:
        if not vector.is_layered:
            return (norm / vector.norm).tolist()
        return [float(unit) / vector.norm_at(layer) for layer, unit in enumerate(norm)]

    return {vector.name: {q: factors(vector, norm) for q, norm in norms.items()} for vector in vectors}
