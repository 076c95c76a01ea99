"""Settings and files that decide the outputs of StepE and Step6 (spec section 4).

For StepD see `fv.runs.completeness`.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fv.config import EvalScopeConfig, EvaluationConfig, InjectionConfig, ScoreConfig, StatsConfig, plain
from fv.config.group import Settings
from fv.evaluation.conditions import providers_of
from fv.evaluation.scope import scope_of_kinds
from fv.files import digest_of
from fv.runs.paths import SNAPSHOT, RunPaths
from fv.runs.records import STEPD, Hashes, StepDRecord
from fv.runs.vector_files import vector_inputs
from fv.vectors.makers import injected_makers


class Requested(NamedTuple):
    """Settings, and {file: SHA-256} of input files, that decide a step's outputs."""

    settings: Settings
    inputs: Hashes


def stats_settings(stats: StatsConfig) -> Settings:
    """The settings of the intervals."""
    return {f"stats.{key}": value for key, value in plain(stats).items()}


def stepe_settings(
    score: ScoreConfig, injection: InjectionConfig, evaluation: EvaluationConfig, stats: StatsConfig
) -> Settings:
    """The settings that decide StepE's outputs."""
    settings: Settings = {"score.key": score.key.value, "score.k": score.k}
    settings["score.aie_leave_one_out"] = score.aie_leave_one_out
    settings |= stats_settings(stats)
    settings["injection.quick_eval"] = injection.quick_eval
    if injection.quick_eval:
        keys = ("layer", "alpha", "alpha_unit", "n_eval")
        settings |= {f"injection.{key}": getattr(injection, key) for key in keys}
        settings["evaluation.dev_fraction"] = evaluation.dev_fraction
    return settings


def aie_settings(score: ScoreConfig) -> Settings:
    """The settings that decide the package of an AIE subset."""
    return {"qids": score.aie_qids, "score_key": score.key.value, "k": score.k, "fv": score.aie_fv}


def aie_folder(score: ScoreConfig, paths: RunPaths, stepd: Hashes) -> Path:
    """The folder of the package of an AIE subset: `artifacts/aie/<aie_id>/` (spec section 4.1)."""
    aie_id = digest_of([aie_settings(score), stepd["cie_scores.csv"]])[:16]
    return paths.artifacts / "aie" / aie_id


def step6_settings(
    injection: InjectionConfig, scope: EvalScopeConfig, evaluation: EvaluationConfig, stats: StatsConfig
) -> Settings:
    """The settings that decide Step6's outputs."""
    every = replace(evaluation, conditions=dict(providers_of(evaluation.conditions)))
    skipped = ("quick_eval", "fv_path", "makers")  # the first decides StepE only; the file is an input, by its hash
    settings = {f"injection.{key}": value for key, value in plain(injection).items() if key not in skipped}
    settings |= {f"injection.makers.{name}": plain(maker) for name, maker in injected_makers(injection).items()}
    for name, group in (("eval_scope", scope), ("evaluation", every)):
        settings |= {f"{name}.{key}": value for key, value in plain(group).items()}
    # The resolved scope decides results, not the word `auto`.
    mode = settings.pop("eval_scope.mode")
    settings["eval_scope"] = scope_of_kinds(mode, injection.fvs, injection.fv_source_qid)
    return settings | stats_settings(stats)


def step6_inputs(injection: InjectionConfig, paths: RunPaths, stepd: StepDRecord) -> dict[str, str]:
    """Compute {file: SHA-256} of Step6's inputs.

    Raises:
        ArtifactError: a vector's file is missing, was changed, or belongs to another run.
    """
    snapshot = {SNAPSHOT: stepd.outputs[SNAPSHOT]}
    return {**snapshot, **vector_inputs(injection, paths, snapshot), STEPD: digest_of(stepd.outputs)}
