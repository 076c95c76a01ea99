"""Plan: the price of the library's functions on trials in memory, the public face of `fv.pricing`."""

from collections.abc import Sequence
from pathlib import Path

import torch

from fv.config import ComputeConfig, EvaluationConfig, PlanConfig, ScoreConfig, Screen, SweepMode, model_presets
from fv.config.checks import AUTO, check_at_least, parse_alphas, parse_indices
from fv.data.trials import Trials
from fv.errors import ConfigError, TrialError, one_of
from fv.evaluation.conditions import condition_providers, only
from fv.evaluation.cost import encoded_alike
from fv.evaluation.unrelated_texts import N_TEXTS, read_unrelated
from fv.heads.ranking import choose_indices, heads_to_sweep
from fv.interventions.compute import DEFAULT, Compute, checked_compute
from fv.interventions.engine import Cell
from fv.interventions.loading import settings_of
from fv.models.language_model import LanguageModel
from fv.models.loading import dtype_of
from fv.pricing.price import Price
from fv.pricing.priced_model import PricedModel, priced_model, priced_model_of
from fv.pricing.pricing import Processor, priced
from fv.pricing.shape import Shape
from fv.pricing.shape_facts import ready_shapes
from fv.pricing.stand_in import StandIn, stand_in_values
from fv.pricing.workload import Workload
from fv.vectors.kinds import OWN
from fv.vectors.names import source_name
from fv.vectors.vector import Vector


def plan(  # noqa: PLR0913 - each is a choice of its own
    model: LanguageModel | str | Path,
    trials: Trials,
    *,
    layers: str | int | Sequence[int] = "all",
    alphas: float | Sequence[float] = 1.0,
    k: int = ScoreConfig.k,
    screen: str = "gradient",
    verified: int | None = None,
    controls: Sequence[str] | None = None,
    dev_fraction: float = EvaluationConfig.dev_fraction,
    n_unrelated: int = N_TEXTS,
    dtype: str | torch.dtype = "fp32",
    tflops: float | None = None,
    gb_per_s: float | None = None,
    disk_gb_per_s: float = 1.0,
    workers: Sequence[int] = (1,),
    compute: Compute = DEFAULT,
) -> Price:
    """Price measuring heads on trials and evaluating each relation's vector on its own relation, without weights.

    Args:
        model: a loaded model; or a name or path as in `fv.load_model`, of which only configuration and tokenizer are
            read; or a ready shape, such as `llama31_70b` (`fv/pricing/shapes/`).
        trials: trials from `fv.sample_trials`. Prompts are encoded with the model's tokenizer, or with the embedded
            model's if it is missing on this machine.
        layers: as in `fv.evaluate`.
        alphas: as in `fv.evaluate`.
        k: number of heads of a vector.
        screen: `gradient` or `integrated`, the method of the screened way, which is priced beside the exact sweep.
        verified: number of heads that a screened run verifies; None for an estimate from the number of relations.
        controls: names of further conditions on the test trials; None for all.
        dev_fraction: as in `fv.evaluate`.
        n_unrelated: as in `fv.evaluate`.
        dtype: number format of weights and activations: fp32, fp64, bf16 or fp16, or a torch dtype.
        tflops: TFLOP/s of large matrix products; None to time passes of the shape on this machine, for some seconds.
        gb_per_s: GB/s at which weights are read from memory, the limit of small passes; None to ignore it.
        disk_gb_per_s: GB/s at which weights are read from disk.
        workers: numbers of workers to give times for.
        compute: engine and memory; `max_rows` must be a number.

    Returns:
        the price: `table` with one row per stage, `total("exact")` and `total("screened")`.

    Raises:
        ConfigError: an argument is out of range.
        ModelError: the model's shape is not known on this machine.
        TrialError: `trials` are not trials, or a relation has no held-out trials.

    Example:
        >>> price = fv.plan("llama31_70b", trials, dtype="bf16", tflops=400, gb_per_s=3350)
        >>> round(price.shape.n_parameters / 1e9, 1)
        70.6
        >>> price.total("screened").flops < price.total("exact").flops
        True
    """
    if not isinstance(trials, Trials):
        raise TrialError(f"trials is a {type(trials).__name__}; pass the trials that fv.sample_trials returns.")
    snapshot = trials.snapshot
    if lacking := [q_id for q_id in snapshot.qids if not snapshot.of(q_id, snapshot.eval_split)]:
        raise TrialError(
            f"trials hold no held-out trials of {lacking[0]}: held_out=… of fv.sample_trials is 1 or more."
        )
    PlanConfig(None, tflops, gb_per_s, disk_gb_per_s, [*workers], verified)  # refuses what is not possible
    check_at_least("n_unrelated", n_unrelated, 0)
    method = one_of("screen", screen, [each for each in Screen if each is not Screen.none])
    conditions = only(condition_providers() if controls is None else controls)
    evaluation = EvaluationConfig(dev_fraction, conditions=conditions)
    settings = _settings(compute, dtype)
    lm, notes = _shape_of(model, settings)
    blocks = choose_indices(parse_indices("layers", layers), lm.n_layers, "layers")
    cells = [Cell(layer, alpha) for layer in blocks for alpha in parse_alphas("alphas", alphas)]
    texts = read_unrelated(n_unrelated, names=("n_unrelated", "path"))
    stand_in = StandIn.of(lm)
    compute.engine_for(stand_in)  # refuses an engine that the family does not allow
    load = Workload(
        lm=stand_in,
        shape=Shape.of(lm),
        snapshot=snapshot,
        heads=heads_to_sweep("all", "all", lm.n_layers, lm.n_heads),
        vectors=[(_own_vector(q_id, i, k), [q_id]) for i, q_id in enumerate(snapshot.qids)],
        cells=cells,
        score=ScoreConfig(k=k, screen=method),
        evaluation=evaluation,
        texts=encoded_alike(stand_in, texts, snapshot.meta.add_special_tokens) if texts else [],
        n_verified=verified,
        compute=settings,
        seed=snapshot.meta.seed,
    )
    return priced(load, Processor(tflops, gb_per_s, disk_gb_per_s, tuple(workers)), notes)


def _settings(compute: Compute, dtype: str | torch.dtype) -> ComputeConfig:
    if checked_compute(compute).max_rows == AUTO:
        raise ConfigError("max_rows=auto depends on the memory of the machine that runs: give fv.plan a number.")
    return ComputeConfig(
        dtype=dtype_of(dtype),
        strict=False,
        max_rows=compute.max_rows,
        sweep=SweepMode(compute.engine),
        keep_mb=compute.keep_mb,
    )


def _shape_of(model: LanguageModel | str | Path, compute: ComputeConfig) -> PricedModel:
    if isinstance(model, LanguageModel):
        return PricedModel(model, [])
    if model in ready_shapes() and model not in model_presets():
        return priced_model_of(str(model), compute)
    return priced_model(settings_of(model), compute)


def _own_vector(q_id: str, number: int, k: int) -> Vector:
    return Vector(source_name(OWN.name, q_id), OWN.name, q_id, stand_in_values(number), k)
