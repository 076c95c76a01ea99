"""Evaluating vectors in memory on trials in memory: the public face of `fv.evaluation.evaluation`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from fv.config import AlphaUnit, ComputeConfig, EvaluationConfig, StatsConfig
from fv.config.checks import check_at_least, parse_alphas, parse_indices
from fv.data.origin import Origin, check_origin
from fv.data.snapshot import Snapshot
from fv.data.trials import Trials
from fv.errors import ConfigError, one_of, shorten
from fv.evaluation.caveats import caveats
from fv.evaluation.conditions import condition_providers, only
from fv.evaluation.evaluation import Evaluation, GridResults, has_choice
from fv.evaluation.held_out_results import HeldOutResults
from fv.evaluation.result import Result
from fv.evaluation.tables import cost_table
from fv.evaluation.unrelated import N_TEXTS, read_unrelated
from fv.heads.effects import KEYS, Effects, HeadEffects, checked_key
from fv.heads.ranking import Ranking, choose_indices
from fv.heads.relations import snapshot_for
from fv.interventions.engine import Cell
from fv.interventions.engines import make_engine
from fv.models.language_model import LanguageModel
from fv.models.special_tokens import special_tokens_warning
from fv.progress import bars
from fv.tables import Tables
from fv.vectors.vector import Vector
from fv.work.driver import SERIAL

MADE_OF_EFFECTS = "Controls are made of effects through this model's projections: measure them with this model."


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
    engine: str = "auto",
    max_rows: int | str = ComputeConfig.max_rows,
    progress: bool = True,
) -> Result:
    """What injecting vectors does to prompts without examples (spec section 2), beside controls and baselines.

    Every vector is injected into the held-out trials of every relation of `trials`, behind every layer at every
    strength. A part of the trials, `dev`, chooses the cell; every number of the result is of the others, `test`. A
    control is given its own best cell by the same dev trials (docs/methods.md).

    Args:
        lm: the model.
        vectors: one or several.
        trials: of the relations to evaluate on: `trials`, or `trials["antonym"]`.
        layers: `all`, one, or the blocks behind which the vector is added.
        alphas: one strength or several.
        alpha_unit: what alpha is a multiple of: `vector`, as it is; or `residual`, the mean norm of the residual stream
            at the layer, which compares across models and needs `effects`.
        controls: what else is run on the test trials, by name: `["random_vector"]`; `all`; `[]` for nothing beside
            zero-shot and few-shot prompts; None for all that can be made of what is given.
        effects: what `fv.indirect_effects` found: most controls are made of it (random heads, other relations, layer
            means, ablations).
        key: the column that ranks the heads of other relations' vectors, which are controls; as of
            `fv.function_vector`.
        dev_fraction: the share of held-out trials that choose a cell; none are set apart where there is one cell only.
        n_trials: at most so many held-out trials a relation; None for all.
        n_unrelated: texts on which the cost of an injection is measured; 0 for none.
        confidence: level of the intervals.
        seed: of every draw; None for the trials' own.
        engine: as of `fv.indirect_effects`, and so are `max_rows` and `progress`.
        max_rows: most token rows in one pass.
        progress: whether to show bars on a terminal.

    Raises:
        ConfigError: an argument is out of range, of another width, or asks for controls that cannot be made; or the
            effects are of another model.
        TrialError: `trials` hold no held-out trials, too few to choose on, or are of another tokenizer.
        NotFiniteError: the model gives numbers that are not finite behind a prompt; names it and the number format.

    Warns:
        FvWarning: a vector is of another model, or vectors or effects are of other prompts than the trials'.

    Example:
        >>> result = fv.evaluate(lm, vector, trials["antonym"], layers=[11, 17], alphas=[1, 2], controls=[])
        >>> list(result.table["condition"])
        ['zero_shot', 'few_shot', 'fv']
    """
    snapshot = snapshot_for(lm, trials, "eval")
    measured = effects.measured if isinstance(effects, HeadEffects) else effects
    if measured is not None and not isinstance(measured, Effects):
        raise ConfigError(f"effects is a {type(effects).__name__}, where what fv.indirect_effects gives is due.")
    if measured is not None and (lacking := sorted({*snapshot.qids} - {*measured.qids})):
        raise ConfigError(f"effects hold nothing of {shorten(lacking)}: measure all relations of the trials.")
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
        engine=make_engine(lm, engine, max_rows, "engine"),
        snapshot=snapshot,
        settings=settings,
        ranking=Ranking(checked_key(key), 10),
        effects=measured,
        alpha_unit=unit,
        stats=StatsConfig(confidence=confidence),
        seed=snapshot.meta.seed if seed is None else seed,
    )
    plan = [(vector, snapshot.qids) for vector in given]
    evaluation.candidates(cells)  # refuses, before anything runs, what cannot be made
    with bars(progress):
        found, rows = SERIAL.run(evaluation.flow(plan, cells, n_trials), "Evaluation")
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
    """What is to be said of special tokens that the prompts lack, if any."""
    warning = special_tokens_warning(lm.tokenizer, snapshot.meta.add_special_tokens)
    return [warning] if warning else []


def _texts(n_unrelated: int) -> list[str]:
    check_at_least("n_unrelated", n_unrelated, 0)
    return read_unrelated(n_unrelated, names=("n_unrelated", "path"))


def _costs(evaluation: Evaluation, found: GridResults, held_out: HeldOutResults, texts: Sequence[str]) -> Tables:
    """`injection_cost`, where there are texts to measure it on."""
    if not texts:
        return {}
    trials, qids = held_out.trials, sorted(held_out.trials["eval_qid"].unique())
    costs = [evaluation.costs(q_id, found.vectors, found.cells, trials, texts) for q_id in qids]
    return {"injection_cost": cost_table(pd.concat(costs), trials, evaluation.stats, evaluation.seed)}


def checked_vectors(lm: LanguageModel, vectors: Any, snapshot: Snapshot) -> tuple[list[Vector], list[str]]:
    """Vectors as a list, those of one source told apart by their number of heads; and what was warned of.

    Raises:
        ConfigError: one is no vector of this model's width, or two go by one name.
    """
    given = [vectors] if isinstance(vectors, Vector) else list(vectors) if isinstance(vectors, Sequence) else []
    if not given or not all(isinstance(vector, Vector) for vector in given):
        raise ConfigError("vectors must be a Vector, of fv.function_vector, fv.load_vector or Vector.of, or several.")
    sources = Counter(vector.source for vector in given)
    named = [replace(vector, of_several=vector.of_several or sources[vector.source] > 1) for vector in given]
    foreign = []
    for vector in named:
        if tuple(vector.values.shape) != (lm.d_model,) or not vector.values.isfinite().all():
            raise ConfigError(
                f"The vector {vector.name} is {tuple(vector.values.shape)}, and {lm.name} takes ({lm.d_model},) of "
                "finite numbers."
            )
        foreign += check_origin(f"The vector {vector.name} is", vector.origin, lm, snapshot)
    twins = [name for name, count in Counter(vector.name for vector in named).items() if count > 1]
    if twins:
        raise ConfigError(f"Two vectors are called {twins[0]}: give one another name (Vector.of), or another k.")
    return named, foreign


def _conditions(controls: Any, has_effects: bool) -> list[str]:
    """The names of the conditions that are asked for."""
    providers = condition_providers()
    if controls is None:
        return [name for name, provider in providers.items() if has_effects or not provider.needs_effects]
    if isinstance(controls, str) and controls != "all":
        raise ConfigError(f"controls={controls!r} must be 'all', or a list of names: {', '.join(providers)}.")
    return list(providers) if isinstance(controls, str) else list(controls)


def _strengths(evaluation: Evaluation, vectors: Sequence[Vector]) -> dict[str, dict[str, list[float]]]:
    """What alpha comes to as a factor on each vector, layer by layer; empty where it is one."""
    norms = evaluation.norms_of_alpha()
    if norms is None:
        return {}
    return {vector.name: {q: (norm / vector.norm).tolist() for q, norm in norms.items()} for vector in vectors}
