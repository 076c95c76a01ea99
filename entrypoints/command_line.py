"""What a command makes of its words before Hydra sees them: `--help` and `--version` are ours, and `-m` goes first."""

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
"""The groups that concern a command, where they are not all but `plan`."""
SWITCHES = {
    "-m": "run one job for each combination of values: -m seed=1,2 injection.layer=8,12",
    "--cfg job": "print the settings and stop; with --resolve, as they come to be",
    "--version": "print the version",
    "--hydra-help": "print what else Hydra takes",
    "hydra.verbose=true": "say more on the terminal",
}

_NULL = re.compile(r"(?<=[\[,=])null(?=[,\]]|$)")
"""The bare word, alone or in a list."""


def plugged_in() -> dict[str, dict[str, type]]:
    """{key that holds settings of plug-ins: {name of one: the class of its settings}}."""
    return {"evaluation.conditions": dict(condition_providers()), "analysis": dict(known_analyses())}


def is_answered(words: Sequence[str], name: str, purpose: str | None) -> bool:
    """Print what `--help` or `--version` asks for.

    Args:
        words: the command's.
        name: of the command.
        purpose: what it does; None where Python left docstrings out (`-OO`).

    Returns:
        whether one of them was asked for, and nothing is left to do.
    """
    if "--version" in words:
        print(f"function-vectors {__version__}")
        return True
    if {"-h", "--help"} & {*words}:
        print_help(name, purpose or "")
        return True
    return False


def multirun_first(words: Sequence[str]) -> list[str]:
    """The words with `-m` in front: Hydra takes no settings on both sides of it."""
    return [word for word in words if word in MULTIRUN] + [word for word in words if word not in MULTIRUN]


def with_null_named(words: Sequence[str]) -> list[str]:
    """The words with the analysis `null` in quotes: a bare `null` is nothing to Hydra."""
    return [_NULL.sub("'null'", word) if word.startswith("analysis=") else word for word in words]


def print_help(name: str, purpose: str) -> None:
    """Print what a command does, its settings, each with a line, and its switches."""
    console = standard_output()
    console.print(f"{command(name)} [key=value …]\n\n{inspect.cleandoc(purpose)}\n")
    told = explanations(plugged_in=plugged_in())
    for group in GROUPS_OF.get(name, tuple(group for group in GROUPS if group != "plan")):
        console.print(f"{group}: {first_sentence(inspect.getdoc(GROUPS[group]) or '')}")
        own = [setting for setting in told if setting.key.startswith(f"{group}.")]
        console.print(_rows({**_choices_of(group), **{setting.key: _told(setting) for setting in own}}))
        for name, cluster in known_clusters().items() if group == "cluster" else ():
            settings = {f"cluster.{own.key}": _told(own) for own in explanations(cluster)}
            console.print(_rows({f"cluster={name}": first_sentence(inspect.getdoc(cluster) or ""), **settings}))
    console.print("All commands:")
    top = {setting.key: _told(setting) for setting in told if "." not in setting.key}
    console.print(_rows({**_choices_of("experiment"), **top, **SWITCHES, **_choices_of("hydra/launcher")}))


def _choices_of(group: str) -> dict[str, str]:
    """The ready files of a group, and of those in it: {`<group>=`: their names}."""
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


def _told(setting: Explanation) -> str:
    choices = f" One of {', '.join(setting.choices)}." if setting.choices else ""
    within = f"; {setting.range}" if setting.range else ""
    return f"{setting.meaning.replace('`', '')}{choices} [{setting.default}{within}]"


def _rows(told: dict[str, str]) -> Table:
    """Keys on the left, what they do on the right."""
    rows = Table.grid(padding=(0, 0, 0, 2), pad_edge=True)
    rows.add_column(no_wrap=True, min_width=36)
    rows.add_column()
    for key, text in told.items():
        rows.add_row(key, text)
    rows.add_row("")
    return rows
