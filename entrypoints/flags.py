"""Flag-style scripts of the source (its sections 5.1 and 9): they turn flags into Hydra overrides and run the commands.

Each script is one table. Flags that are not in the table are refused by argparse; two flags that contradict each other
are refused with their names.
"""

import argparse
import importlib
import json
import re
import shlex
import sys
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

from fv.config import Config, DataConfig, ScopeMode, model_presets
from fv.config.checks import name_after
from fv.config.explanations import explanations
from fv.config.overrides import shown_value
from fv.errors import ConfigError, FvError
from fv.runs.commands import command
from fv.runs.paths import AIE_META, FV_META, RunPaths
from fv.runs.records import StepDRecord, read_record

from .output import take_any_text

MODEL_FLAGS = {
    "--model": "model",
    "--model_spec": "model.spec",
    "--device": "compute.device",
    "--dtype": "compute.dtype",
    "--quant": "model.quant",
    "--seed": "seed",
}
"""{flag of all scripts: the key that it sets}."""

STEPD_FLAGS = {
    **MODEL_FLAGS,
    "--relation_csv_path": "data.relation_csv_path",
    "--relation_n_trials_per_q": "data.n_trials_per_q",
    "--relation_n_demos": "data.n_demos",
    "--fixed_trials_path": "data.fixed_trials_path",
    "--n_mean_trials": "data.n_mean_trials",
    "--n_trials": "score.n_trials",
    "--layers": "score.layers",
    "--heads": "score.heads",
    "--score_key": "score.key",
    "--out_base_dir": "base",
    "--out_dir": "base",
    "--fixed_out_dir": "base",
}
STEPE_FLAGS = {
    **MODEL_FLAGS,
    "--stepd_base_dir": "base",
    "--stepd_artifacts_dir": "base",
    "--sampled_trials_path": "base",
    "--fixed_trials_path": "base",
    "--run_id_stepD": "run_id",
    "--out_dir": "out",
    "--score_key": "score.key",
    "--metric": "score.key",
    "--k": "score.k",
    "--layers": "injection.layer",
    "--alpha": "injection.alpha",
    "--n_eval_trials": "injection.n_eval",
}
STEP6_FLAGS = {
    **MODEL_FLAGS,
    "--sampled_trials_path": "base",
    "--fixed_trials_path": "base",
    "--out_dir": "out",
    "--edit_layer": "injection.layer",
    "--layers": "injection.layer",
    "--alpha": "injection.alpha",
    "--n_eval": "injection.n_eval",
    "--fv_global_path": "fv_path",
    "--fv_global_meta_path": "fv_meta",
    "--fv_source_qid": "injection.fv_source_qid",
    "--eval_scope": "eval_scope",
    "--eval_qids": "eval_scope.qids",
}
ADOPTED: dict[str, tuple[str, ...]] = {
    "model": (),
    "data": (),
    "score": ("layers", "heads", "n_trials"),
    "compute": ("device", "dtype"),
}
"""{group: the settings of StepD's run that the scripts of later steps adopt}; empty for the whole group."""
SOURCE_FIT_TRIALS = 12
"""Default of `--relation_n_trials_per_q` in StepD's script; the default of the commands is higher."""
SCRIPTS = {"stepd": STEPD_FLAGS, "stepe": STEPE_FLAGS, "step6": STEP6_FLAGS}
MEANINGS = {
    "data.n_trials_per_q": "sets data.n_trials_per_q: trials per relation for finding heads; default "
    f"{SOURCE_FIT_TRIALS}",
    "base": "the run: its folder <results_dir>/relation/<run_id>, the artifacts in it, or its sampled_trials.json",
    "out": "folder of outputs: the step's folder in the run, or a folder in it, whose name is then the tag",
    "run_id": "name of the run",
    "model": "a ready model (model=<name>), a folder, or a hub id",
    "fv_path": "the .pt file of the vector: the run's global vector, or any other",
    "fv_meta": "the vector's metadata, in the same folder",
    "eval_scope": f"relations that a vector is evaluated on: {', '.join(ScopeMode)}",
}
"""Meanings of flags that do not set one key of that name, or have another default."""
LISTS = ("score.layers", "score.heads", "injection.layer", "injection.alpha", "eval_scope.qids")


def main(step: str) -> None:
    """Run one script: translate `sys.argv`, print the equivalent command, run it."""
    take_any_text()
    parser = argparse.ArgumentParser(allow_abbrev=False, description=f"Flag-style {step}; see {command(step)}.")
    for flag, key in SCRIPTS[step].items():
        parser.add_argument(flag, dest=flag, metavar="VALUE", help=_help(key), default=argparse.SUPPRESS)
    try:
        overrides = translate(step, vars(parser.parse_args()))
    except FvError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    module = f"entrypoints.{step}"
    print(command(step, shlex.join(overrides)), flush=True)
    sys.argv = [module, *overrides]
    importlib.import_module(f".{step}", __package__).main()


def _help(key: str) -> str:
    """The meaning of a flag, with `%` doubled, because argparse formats it."""
    meanings = {setting.key: setting.meaning for setting in explanations()}
    text = MEANINGS[key] if key in MEANINGS else f"sets {key}: {meanings[key]}"
    return text.replace("%", "%%")


def translate(step: str, flags: dict[str, str]) -> list[str]:
    """Translate flags ({flag: value}) into Hydra overrides.

    Raises:
        ConfigError: two flags contradict each other, or a path does not belong to a run.
    """
    values = _by_key(SCRIPTS[step], flags)
    overrides: dict[str, str] = {}
    if model := values.pop("model", None):
        overrides |= _model(model)
    run = _run_of(step, values)
    overrides |= {key: _quoted(value) for key, value in run.items()}
    if step == "stepd":
        overrides["data.split"] = "shared"
        overrides["data.n_trials_per_q"] = str(SOURCE_FIT_TRIALS)
        overrides["model.add_special_tokens"] = "false"  # the source adds none; StepD warns if the tokenizer would
        if csv := values.get("data.relation_csv_path"):
            overrides["data.name"] = _quoted(name_after(csv, DataConfig.name))
    if step == "stepe" and any(key.startswith("injection.") for key in values):
        overrides["injection.quick_eval"] = "true"
    if step == "step6":
        overrides |= _vector(values, run)
        if scope := values.pop("eval_scope", None):
            if scope not in list(ScopeMode):
                raise ConfigError(f"--eval_scope {scope}: choose from {', '.join(ScopeMode)}.")
            overrides["eval_scope"] = scope
    overrides |= {key: _list(key, value) if key in LISTS else _quoted(value) for key, value in values.items()}
    if step != "stepd":
        overrides = _settings_of_run(run, overrides) | overrides
    return [f"{key}={value}" for key, value in overrides.items()]


def _by_key(table: dict[str, str], flags: dict[str, str]) -> dict[str, str]:
    """Convert {flag: value} to {key: value}; several flags of one key must have the same value."""
    found: dict[str, tuple[str, str]] = {}
    for flag, value in flags.items():
        key = table[flag]
        if key == "base":
            value = str(_base(flag, value))
        other_flag, other = found.setdefault(key, (flag, value))
        if other != value:
            raise ConfigError(f"{other_flag} and {flag} contradict each other: {other} and {value}.")
    return {key: value for key, (_, value) in found.items()}


def _base(flag: str, value: str) -> Path:
    """Find the run's folder from its own path, or from the path of its artifacts or its snapshot."""
    path = Path(value)
    if path.name == "sampled_trials.json":
        path = path.parent
    if path.name == "artifacts":
        path = path.parent
    if path.parent.name != "relation":
        raise ConfigError(
            f"{flag} {value}: a run's folder is <results_dir>/relation/<run_id>; this path has no such form."
        )
    return path


def _run_of(step: str, values: dict[str, str]) -> dict[str, str]:
    """Find `results_dir`, `run_id` and `tag` from the flags that name folders, and remove these from `values`."""
    base = Path(values.pop("base")) if "base" in values else None
    if step == "step6" and base is None and "fv_path" in values:
        base = _base("--fv_global_path", str(Path(values["fv_path"]).parent))
    run_id = values.pop("run_id", base.name if base else None)
    if run_id is None:
        raise ConfigError(
            "Name the run: " + " or ".join(f for f, key in SCRIPTS[step].items() if key in ("base", "run_id"))
        )
    if base is None:
        base = Path(Config.results_dir) / "relation" / run_id
    if base.name != run_id:
        raise ConfigError(f"--run_id_stepD {run_id} contradicts the run's folder {base}.")
    run = {"results_dir": str(base.parent.parent), "run_id": run_id}
    if (out := values.pop("out", None)) is not None:
        home = base / "artifacts" / "step6" if step == "step6" else base / "artifacts"
        if Path(out) != home and Path(out).parent != home:
            raise ConfigError(f"--out_dir {out}: outputs go to {home}, or to a folder in it (a tag).")
        if Path(out) != home:
            run["tag"] = Path(out).name
    return run


def _vector(values: dict[str, str], run: dict[str, str]) -> dict[str, str]:
    """Find Step6's vector from `--fv_global_path`, its metadata's path, and `--fv_source_qid`."""
    path, meta = values.pop("fv_path", None), values.pop("fv_meta", None)
    if meta is not None and (
        path is None or Path(meta) not in [Path(path).parent / name for name in (FV_META, AIE_META)]
    ):
        raise ConfigError(f"--fv_global_meta_path {meta}: it must be the metadata next to --fv_global_path {path}.")
    if path is None:
        return {"injection.fv": "qid" if "injection.fv_source_qid" in values else "global"}  # the source's own default
    artifacts = Path(run["results_dir"]) / "relation" / run["run_id"] / "artifacts"
    if Path(path) == artifacts / run.get("tag", "") / "fv_global_resid.pt":
        if "injection.fv_source_qid" in values:
            raise ConfigError("--fv_source_qid contradicts --fv_global_path: that file holds the global vector.")
        return {"injection.fv": "global"}
    return {"injection.fv": "file", "injection.fv_path": _quoted(path)}


def _model(value: str) -> dict[str, str]:
    """Translate `--model`: a ready model, a folder, or a hub id."""
    if value in (*model_presets(), "local"):
        return {"model": value}
    name = Path(value).name
    given = {"model.path": _quoted(value)} if Path(value).is_dir() else {"model.id": _quoted(value)}
    return {"model": "local", "model.name": _quoted(name), **given}


def _settings_of_run(run: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """The settings of StepD's run that differ from the defaults and are not given by flags."""
    path = RunPaths(Path(run["results_dir"]) / "relation" / run["run_id"]).stepd_meta
    if not path.exists():
        return {}  # the step itself names the step to run first
    defaults, recorded = Config().resolved(), read_record(path, StepDRecord).config.resolved()
    stored = {"seed": recorded["seed"]} | {
        f"{group}.{key}": recorded[group][key] for group, keys in ADOPTED.items() for key in keys or defaults[group]
    }
    adopted = {}
    for key, value in stored.items():
        group, _, name = key.partition(".")
        default = defaults[group][name] if name else defaults[group]
        # A ready model has all settings of its group but this one, which StepD's script sets for every model.
        named = group == "model" and "model" in given and name != "add_special_tokens"
        if value != default and key not in given and not named:
            adopted[key] = shown_value(key, value)
    return adopted


def _quoted(value: str) -> str:
    """Quote a string for Hydra's override grammar, unless it can only be read as itself."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_./+-]*|0|[1-9][0-9]*", value)
    if plain and value.lower() not in ("null", "true", "false", "nan", "inf"):
        return value
    return QuotedString(value, Quote.single).with_quotes()


def _list(key: str, value: str) -> str:
    """Convert a comma-separated flag to a list; `all` stays `all`."""
    if value == "all":
        return value
    items = value.split(",")
    if key == "eval_scope.qids":
        return shown_value(key, items)
    kind = float if key == "injection.alpha" else int
    try:
        return json.dumps([kind(item) for item in items], separators=(",", ":"))
    except ValueError:
        raise ConfigError(f"{key}: {value!r} must be all or numbers separated by commas.") from None
