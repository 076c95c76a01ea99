"""Words of a command, before Hydra sees them: answers to `--help` and `--version`, and `-m` moved to the front."""

import dataclasses
import inspect
import re
from collections.abc import Sequence

from rich.table import Table

from fv import __version__
from fv.analyses import Analysis, known_analyses
from fv.cluster import known_clusters
from fv.config import Config
from fv.config.explanations import Explanation, explanations, first_sentence
from fv.config.presets import CONF
from fv.display import standard_output
from fv.evaluation.conditions import condition_providers
from fv.runs.commands import command

MULTIRUN = ("-m", "--multirun")
GROUPS = {
    **{field.name: field.type for field in dataclasses.fields(Config) if dataclasses.is_dataclass(field.type)},
    "analysis": Analysis,
}
GROUPS_OF = {
    "data": ("data", "model"),
    "models": ("model", "compute"),
    "analyse": ("analysis", "cluster"),
    "gather": (),
    "clean": (),
    "status": (),
    "report": ("report",),
    "plan": tuple(GROUPS),
}
"""{command: groups of its settings}; other commands have all groups but `plan`."""
SWITCHES = {
    "-m": "run one job for each combination of values: -m seed=1,2 injection.layer=8,12",
    "--cfg job": "print the settings and stop; with --resolve, with references resolved",
    "--version": "print the version",
    "--hydra-help": "print Hydra's own help",
    "hydra.verbose=true": "print debug lines too",
}

_NULL = re.compile(r"(?<=[\[,=])null(?=[,\]]|$)")
"""Bare word `null`, alone or in a list."""


def plugged_in() -> dict[str, dict[str, type]]:
    """{key that holds settings of plug-ins: {name of a plug-in: the class of its settings}}."""
    return {"evaluation.conditions": dict(condition_providers()), "analysis": dict(known_analyses())}


def is_answered(words: Sequence[str], name: str, purpose: str | None) -> bool:
    """Print the answer to `--help` or `--version`.

    Args:
        words: the words of the command.
        name: the command's name.
        purpose: the docstring of its module; None if Python runs without docstrings (`-OO`).

    Returns:
        True if one of them was given, so that nothing is left to do.
    """
    if "--version" in words:
        print(f"function-vectors {__version__}")
        return True
    if {"-h", "--help"} & {*words}:
        print_help(name, purpose or "")
        return True
    return False


def multirun_first(words: Sequence[str]) -> list[str]:
    """Move `-m` to the front, because Hydra takes settings on one side of it only."""
    return [word for word in words if word in MULTIRUN] + [word for word in words if word not in MULTIRUN]


def with_null_named(words: Sequence[str]) -> list[str]:
    """Put the name of the analysis `null` in quotes, because Hydra reads a bare `null` as no value."""
    return [_NULL.sub("'null'", word) if word.startswith("analysis=") else word for word in words]


def print_help(name: str, purpose: str) -> None:
    """Print the purpose of a command, its settings with their meanings, and its switches."""
    console = standard_output()
    console.print(f"{command(name)} [key=value …]\n\n{inspect.cleandoc(purpose)}\n")
    settings = explanations(plugged_in=plugged_in())
    for group in GROUPS_OF.get(name, tuple(group for group in GROUPS if group != "plan")):
        console.print(f"{group}: {first_sentence(inspect.getdoc(GROUPS[group]) or '')}")
        own = [setting for setting in settings if setting.key.startswith(f"{group}.")]
        console.print(_rows({**_choices_of(group), **{setting.key: _shown(setting) for setting in own}}))
        for name, cluster in known_clusters().items() if group == "cluster" else ():
            of_cluster = {f"cluster.{own.key}": _shown(own) for own in explanations(cluster)}
            console.print(_rows({f"cluster={name}": first_sentence(inspect.getdoc(cluster) or ""), **of_cluster}))
    console.print("All commands:")
    top = {setting.key: _shown(setting) for setting in settings if "." not in setting.key}
    console.print(_rows({**_choices_of("experiment"), **top, **SWITCHES, **_choices_of("hydra/launcher")}))


def _choices_of(group: str) -> dict[str, str]:
    """The ready files of a group and of the groups in it: {`<group>=`: their names}."""
    if group == "analysis":
        return {"analysis=": f"some of [{','.join(known_analyses())}]"}
    if group == "cluster":
        return {"cluster=": f"one of none, {', '.join(known_clusters())}"}
    folders = [CONF / group, *sorted(path for path in (CONF / group).iterdir() if path.is_dir())]
    found = {}
    for folder in folders:
        if names := sorted(path.stem for path in folder.glob("*.yaml") if path.stem != "default"):
            found[f"{folder.relative_to(CONF).as_posix()}="] = f"one of {', '.join(names)}"
    return found


def _shown(setting: Explanation) -> str:
    choices = f" One of {', '.join(setting.choices)}." if setting.choices else ""
    within = f"; {setting.range}" if setting.range else ""
    return f"{setting.meaning.replace('`', '')}{choices} [{setting.default}{within}]"


def _rows(meanings: dict[str, str]) -> Table:
    """Make a table with keys on the left and their meanings on the right."""
    rows = Table.grid(padding=(0, 0, 0, 2), pad_edge=True)
    rows.add_column(no_wrap=True, min_width=36)
    rows.add_column()
    for key, text in meanings.items():
        rows.add_row(key, text)
    rows.add_row("")
    return rows
