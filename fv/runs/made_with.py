"""What the outputs of StepE and Step6 are made with: the settings and files that decide them (spec section 4).

StepD's are in `fv.runs.completeness`.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from fv.config import Config
from fv.evaluation.conditions import providers_of
from fv.files import digest_of
from fv.runs.metadata import stats_settings
from fv.runs.moved import scope_of_kinds
from fv.runs.paths import SNAPSHOT, RunPaths
from fv.runs.records import STEPD
from fv.runs.vector_files import vector_inputs


def stepe_settings(config: Config) -> dict[str, Any]:
    """What a StepE folder is made with."""
    score, injection = config.score, config.injection
    settings: dict[str, Any] = {"score.key": score.key.value, "score.k": score.k}
    settings["score.aie_leave_one_out"] = score.aie_leave_one_out
    settings |= stats_settings(config)
    settings["injection.quick_eval"] = injection.quick_eval
    if injection.quick_eval:
        keys = ("layer", "alpha", "alpha_unit", "n_eval")
        settings |= {f"injection.{key}": getattr(injection, key) for key in keys}
        settings["evaluation.dev_fraction"] = config.evaluation.dev_fraction
    return settings


def aie_settings(config: Config) -> dict[str, Any]:
    """What an AIE subset's package is made with."""
    score = config.score
    return {"qids": score.aie_qids, "score_key": score.key.value, "k": score.k, "fv": score.aie_fv}


def aie_folder(config: Config, paths: RunPaths, stepd_hashes: dict[str, str]) -> Path:
    """Where an AIE subset's package belongs: `artifacts/aie/<aie_id>/` (spec section 4.1)."""
    aie_id = digest_of([aie_settings(config), stepd_hashes["cie_scores.csv"]])[:16]
    return paths.artifacts / "aie" / aie_id


def step6_settings(config: Config) -> dict[str, Any]:
    """What a Step6 folder is made with."""
    evaluation = replace(config.evaluation, conditions=dict(providers_of(config.evaluation.conditions)))
    values = replace(config, evaluation=evaluation).resolved()
    skipped = ("quick_eval", "fv_path")  # the first is StepE's; the file itself is among the inputs, by its hash
    settings = {f"injection.{key}": value for key, value in values["injection"].items() if key not in skipped}
    for group in ("eval_scope", "evaluation"):
        settings |= {f"{group}.{key}": value for key, value in values[group].items()}
    # What decides results is what `auto` comes to, and not how it is said.
    mode, injection = settings.pop("eval_scope.mode"), config.injection
    settings["eval_scope"] = scope_of_kinds(mode, injection.fvs, injection.fv_source_qid)
    return settings | stats_settings(config)


def step6_inputs(config: Config, paths: RunPaths, stepd_meta: dict[str, Any]) -> dict[str, str]:
    """{file: SHA-256} of what Step6 reads.

    Raises:
        ArtifactError: a vector's file is missing, was changed, or is of another run.
    """
    outputs = stepd_meta["outputs"]
    snapshot = {SNAPSHOT: outputs[SNAPSHOT]}
    return {**snapshot, **vector_inputs(config, paths, snapshot), STEPD: digest_of(outputs)}
