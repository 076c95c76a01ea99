"""Whatever plugs in from an installed package is known to the commands, or named in a line that says why it is not."""

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hydra.core.config_store import ConfigStore
from plug_ins import install

from entrypoints.plug_ins import add_analyses, add_clusters, add_conditions
from fv import analyses, cluster
from fv.analyses.cost import Cost
from fv.cluster.local import Local
from fv.evaluation import conditions
from fv.evaluation.conditions.bottom_heads import BottomHeads

MODULES = {
    "well": '''
from dataclasses import dataclass

from {package} import {base}


@dataclass
class Well({base}):
    """Has a setting."""

    how: int = 3
    """How?"""
''',
    "unfit": '''
from dataclasses import dataclass, field

from {package} import {base}


@dataclass
class Unfit({base}):
    """Has settings that cannot be typed."""

    where: type = int
    """What?"""
    made: frozenset = field(default_factory=frozenset)
    """What?"""
''',
    "broken": "import a_module_that_nobody_has\n",
}


class Kind(NamedTuple):
    """What is `called` so in messages: its base class, how it is known and added to settings, and one of our own."""

    called: str
    base: type
    group: str
    known: Any
    add: Callable[[], None]
    own: type


def add_conditions_to_a_schema() -> None:
    add_conditions(ConfigStore.instance().load("config_schema.yaml").node)


KINDS = (
    Kind("analysis", analyses.Analysis, analyses.GROUP, analyses.known_analyses, add_analyses, Cost),
    Kind(
        "condition",
        conditions.ConditionProvider,
        conditions.GROUP,
        conditions.condition_providers,
        add_conditions_to_a_schema,
        BottomHeads,
    ),
    Kind("cluster", cluster.Cluster, cluster.GROUP, cluster.known_clusters, add_clusters, Local),
)


@pytest.fixture(params=KINDS, ids=[kind.called for kind in KINDS])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kind]:
    """Each kind in turn. Hydra's store, and what is known, is as it was afterwards."""
    store, found = ConfigStore.instance(), request.param
    before = {name: dict(own) if isinstance(own, dict) else own for name, own in store.repo.items()}
    monkeypatch.setattr(store, "repo", before)
    found.known.cache_clear()
    yield found
    found.known.cache_clear()


def add(kind: Kind, monkeypatch: pytest.MonkeyPatch, folder: Path, *names: str) -> None:
    """Install a package whose entry points are `names`, and tell Hydra of the kind's settings."""
    modules = {
        name: code.format(package=kind.base.__module__, base=kind.base.__name__) for name, code in MODULES.items()
    }
    install(monkeypatch, folder, "outside_plug_ins", modules, kind.group, "".join(f"{name}\n" for name in names))
    kind.add()


def test_a_module_that_fails_to_import_is_named_in_a_warning(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = {*kind.known()}
    kind.known.cache_clear()
    with caplog.at_level(logging.WARNING):
        add(kind, monkeypatch, tmp_path, "well = outside_plug_ins.well:Well", "broken = outside_plug_ins.broken:Broken")
    (record,) = caplog.records
    assert record.getMessage() == (
        f"The plug-in broken = outside_plug_ins.broken:Broken ({kind.group}) is left out. "
        "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"
    )
    assert {*kind.known()} == {*before, "well"}


def test_a_name_that_is_taken_is_refused_in_a_line(kind: Kind, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = kind.own.__module__
    name = module.rpartition(".")[2]
    told = f"{name} of {kind.group} is both {module}:{kind.own.__name__} and outside_plug_ins.well:Well. "
    with pytest.raises(SystemExit, match=f"^{re.escape(told)}"):
        add(kind, monkeypatch, tmp_path, f"{name} = outside_plug_ins.well:Well")


def test_settings_that_no_command_line_could_give_are_refused_in_a_line(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = rf"^The {kind.called} unfit \(outside_plug_ins\.unfit:Unfit\) has impossible settings: "
    with pytest.raises(SystemExit, match=told):
        add(kind, monkeypatch, tmp_path, "unfit = outside_plug_ins.unfit:Unfit")
