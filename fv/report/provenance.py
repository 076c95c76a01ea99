"""Provenance of a run for its page: settings, versions, hashes, and the command that repeats it."""

import shlex

from fv.config import Config, EvaluationConfig
from fv.config.overrides import shown_value
from fv.evaluation.conditions import providers_of
from fv.report.words import without_folders
from fv.runs.commands import command
from fv.runs.identity import flat, with_defaults
from fv.runs.run import Run

_OF_THE_PLACE = ("results_dir", "overwrite", "runs", "out", "report.page", "report.formats")
"""Settings that decide where a run is stored and how it is shown, not its results."""
_MAKERS = "injection.makers."
"""Beginning of the keys of settings that have no defaults in `Config`."""


def settings_of(run: Run) -> list[tuple[str, str]]:
    """Every setting by its key, as text; absolute paths are cut to their last part."""
    values = flat(without_folders(run.config.resolved()))
    return [(key, shown_value(key, value)) for key, value in values.items() if key not in _OF_THE_PLACE]


def command_of(run: Run) -> str:
    """Command that repeats the run, with all settings that are not the defaults; absolute paths are cut."""
    default = Config(evaluation=EvaluationConfig(conditions=dict(providers_of({})))).resolved()
    defaults = flat(default)
    there = flat(without_folders(run.config.resolved()))
    of_makers = {key: value for key, value in there.items() if key.startswith(_MAKERS)}
    given = with_defaults(there, defaults)
    differing = {key: value for key, value in given.items() if key not in _OF_THE_PLACE and value != defaults[key]}
    overrides = [shlex.quote(f"{key}={shown_value(key, value)}") for key, value in {**differing, **of_makers}.items()]
    return command("pipeline", *overrides)


def made_with(run: Run) -> list[tuple[str, str]]:
    """Versions of software, and SHA-256 of weights, tokenizer and relation data."""
    meta = run.meta
    found = {
        **meta.versions,
        **without_folders(meta.model),
        "relation data, SHA-256": run.trials.snapshot.meta.relation_csv.sha256,
        "canonical": str(meta.canonical),
    }
    return [(name, str(value)) for name, value in found.items()]


def hashes_of(run: Run) -> list[tuple[str, str]]:
    """{file of the run: its SHA-256}."""
    return list(run.hashes.items())
