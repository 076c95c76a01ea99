"""What a run is made of, for its page: settings, versions, hashes, and the command that repeats it."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from fv.config import Config, EvaluationConfig
from fv.evaluation.conditions import providers_of
from fv.report.words import without_folders
from fv.runs.commands import command
from fv.runs.identity import as_recorded, flat
from fv.runs.run import Run

_OF_THE_PLACE = ("results_dir", "overwrite", "runs", "out", "report.page", "report.formats")
"""Settings that say where a run is put and how it is shown, not what it is."""
_BARE = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./@")
_READ_AS_ANOTHER = ("true", "false", "null", "nan", "inf")


def settings_of(run: Run) -> list[tuple[str, str]]:
    """Every setting by its key, as text; of an absolute path, the last part."""
    values = flat(without_folders(_last_config(run)))
    return [(key, _value(value)) for key, value in values.items() if key not in _OF_THE_PLACE]


def command_of(run: Run) -> str:
    """The command that repeats the run: the settings that are not the defaults. A path is where the file was called."""
    default = Config(evaluation=EvaluationConfig(conditions=dict(providers_of({})))).resolved()
    given, defaults = as_recorded(without_folders(_last_config(run)), default), flat(default)
    differing = {key: value for key, value in given.items() if key not in _OF_THE_PLACE and value != defaults[key]}
    overrides = [shlex.quote(f"{key}={_value(value)}") for key, value in differing.items()]
    return command("pipeline", *overrides)


def made_with(run: Run) -> list[tuple[str, str]]:
    """Versions of what ran, and SHA-256 of weights, tokenizer and relation data."""
    meta = run.meta
    found = {
        **meta.get("versions", {}),
        **without_folders(meta.get("model", {})),
        "relation data, SHA-256": run.trials.snapshot.meta.relation_csv.sha256,
        "canonical": str(meta.get("canonical")),
    }
    return [(name, str(value)) for name, value in found.items()]


def hashes_of(run: Run) -> list[tuple[str, str]]:
    """{file of the run: its SHA-256}."""
    return list(run.hashes.items())


def _last_config(run: Run) -> dict[str, Any]:
    """The settings that the last finished step was given: those of the injection are Step6's own."""
    return run.steps[[*run.outputs][-1]].meta["config"]


def _value(value: Any) -> str:
    """A setting's value as Hydra reads it on a command line."""
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}: {_value(each)}" for key, each in value.items()) + "}"
    if not isinstance(value, str):
        return json.dumps(value)
    plain = value and set(value) <= _BARE and value.lower() not in _READ_AS_ANOTHER and not value[0].isdigit()
    return value if plain else json.dumps(value, ensure_ascii=False)
