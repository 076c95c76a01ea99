"""Ranges of settings: what a field's type says is checked, told by the name that was given, and shown by `--help`."""

import math
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt
from conftest import MakeConfig
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from entrypoints.command_line import plugged_in, print_help
from fv.cluster import known_clusters
from fv.config import Config, DataConfig, Group, HoldOut, ScoreConfig, Screen, Split
from fv.config.explanations import Setting, settings_of
from fv.config.group import named_later, with_values
from fv.config.ranges import Bound, Range, ranges_of
from fv.errors import ConfigError

NEEDED: dict[str, dict[str, Any]] = {
    "data.n_eval_trials_per_q": {"split": Split.shared},
    "plan.gb_per_s": {"tflops": 1.0},
}
"""{setting: others without which its least value means nothing}."""


class Ranged(NamedTuple):
    """A setting with a range, and the key of its group."""

    group: str
    schema: type
    name: str
    range: Range

    @property
    def key(self) -> str:
        return f"{self.group}.{self.name}" if self.group else self.name


def ranged(settings: list[Setting]) -> list[Ranged]:
    found = [(one.key.rpartition(".")[0], one.schema, one.field.name) for one in settings]
    return [Ranged(*each, ranges_of(each[1])[each[2]]) for each in found if each[2] in ranges_of(each[1])]


OF_RUNS = ranged([*settings_of(plugged_in=plugged_in())])
OF_CLUSTERS = ranged([one for cluster in known_clusters().values() for one in settings_of(cluster, "cluster.")])
EVERY = [*OF_RUNS, *OF_CLUSTERS]
every = pytest.mark.parametrize("setting", EVERY, ids=lambda one: f"{one.schema.__name__}.{one.name}")


def at(bound: Bound) -> float:
    """The number of a bound."""
    return getattr(bound, type(bound).__name__.lower())


def just_outside(bound: Bound) -> float:
    number = at(bound)
    return {Ge: number - 1, Gt: number, Le: number + 1, Lt: number}[type(bound)]


def just_inside(bound: Bound) -> float:
    number = at(bound)
    if isinstance(bound, Ge | Le):
        return number
    if number > 2**32:
        return number - 1  # a seed is whole
    return math.nextafter(number, math.inf if isinstance(bound, Gt) else -math.inf)


def as_given(setting: Ranged, number: float) -> Any:
    return [number] if setting.range.of_each else number


def made(setting: Ranged, number: float) -> Any:
    return setting.schema(**{setting.name: as_given(setting, number), **NEEDED.get(setting.key, {})})


# Every setting that has one


@every
def test_a_number_just_outside_is_refused_by_the_fields_name_where_settings_are_made_by_hand(setting: Ranged) -> None:
    for bound in setting.range.bounds:
        number = just_outside(bound)
        told = f"{setting.name}={as_given(setting, number)} must be "
        with pytest.raises(ConfigError, match=f"^{re.escape(told)}.*{re.escape(setting.range.words)}\\.$"):
            made(setting, number)


@pytest.mark.parametrize("setting", [one for one in EVERY if one.group], ids=lambda one: one.key)
def test_a_number_just_outside_is_refused_by_its_key_where_settings_are_of_a_run(setting: Ranged) -> None:
    for bound in setting.range.bounds:
        with named_later():
            of_run = made(setting, just_outside(bound))
        told = f"^{re.escape(setting.key)}=.* must be .*{re.escape(setting.range.words)}\\.$"
        with pytest.raises(ConfigError, match=told):
            of_run.become(setting.group)


@every
def test_a_number_just_inside_is_taken(setting: Ranged) -> None:
    for bound in setting.range.bounds:
        assert getattr(made(setting, just_inside(bound)), setting.name) == as_given(setting, just_inside(bound))


@every
def test_nothing_is_given_by_null_only_where_the_type_has_it(setting: Ranged) -> None:
    needed = NEEDED.get(setting.key, {})
    if setting.range.or_null:
        assert getattr(setting.schema(**{setting.name: None, **needed}), setting.name) is None
    else:
        with pytest.raises(ConfigError, match=f"^{setting.name}=None must be "):
            setting.schema(**{setting.name: None, **needed})


@pytest.mark.parametrize("command", ["pipeline", "plan"])
def test_help_shows_the_range_beside_the_default(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "600")
    print_help(command, "")
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if " " in line.strip()]
    shown = EVERY if command == "plan" else [one for one in EVERY if one.group != "plan"]
    assert len(shown) > 30
    for setting in shown:
        told = [text.rstrip() for key, text in lines if key == setting.key]
        alike = [one for one in shown if (one.key, one.range.words) == (setting.key, setting.range.words)]
        assert sum(text.endswith(f"; {setting.range.words}]") for text in told) == len(alike), setting.key


def test_help_says_a_range_in_plain_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "600")
    print_help("plan", "")
    said = capsys.readouterr().out
    for words in (
        *("function vector. [10; 1 or more]", "[0.9; above 0 and below 1]", "[null; 1 or more]"),
        *("[[1,8,64]; each 1 or more]", "[42; 0 or more and below 2**64]", "[0.3; 0 or more and below 1]"),
    ):
        assert words in said


@pytest.mark.parametrize(
    "overrides",
    [
        ["score.k=0"],
        ["seed=-1"],
        ["evaluation.controls.weaker=[0.5,1]"],
        ["evaluation.conditions.refits.draws=1"],
        ["analysis=['null']", "analysis.null.draws=19"],
        ["cluster=slurm", "cluster.workers=0"],
        ["data.template.query=Q"],
    ],
)
def test_a_command_refuses_a_setting_by_its_key(make_config: MakeConfig, overrides: list[str]) -> None:
    key = overrides[-1].partition("=")[0]
    with pytest.raises(ConfigError, match=f"^{re.escape(key)}=.* must "):
        make_config(*overrides)


# Ranges of any group


class Colour(StrEnum):
    red = "red"
    blue = "blue"


@dataclass
class Own(Group):
    """Settings as a plug-in has them."""

    depth: Annotated[float, Interval(gt=0, le=1)] = 0.5
    widths: list[Annotated[int, Ge(1)]] | None = None
    colour: Colour = Colour.red


@dataclass
class Deeper(Own):
    depth: float = 0.9


numbers = st.integers(-3, 3) | st.floats(-3, 3)


@given(numbers, st.dictionaries(st.sampled_from([Ge, Gt, Le, Lt]), numbers, min_size=1))
def test_a_range_takes_the_numbers_that_pydantic_takes(value: float, bounds: dict[type, float]) -> None:
    markers = [kind(number) for kind, number in bounds.items()]
    kind = Annotated[(float, *markers)]
    try:
        TypeAdapter(kind).validate_python(value)
        takes = True
    except ValidationError:
        takes = False
    assert Range(tuple(markers)).takes(value) is takes


def test_a_group_is_held_to_its_ranges_without_a_check_of_its_own() -> None:
    assert Own(depth=1.0, widths=[1, 2]).widths == [1, 2]
    cases: list[tuple[str, Any, str]] = [
        ("depth", 0, "depth=0 must be above 0 and 1 or less."),
        ("depth", math.nan, "depth=nan must be above 0 and 1 or less."),
        ("depth", "deep", "depth='deep' must be above 0 and 1 or less."),
        ("widths", [2, 0], "widths=[2, 0] must be numbers, each 1 or more."),
        ("widths", 3, "widths=3 must be numbers, each 1 or more."),
    ]
    for name, value, told in cases:
        with pytest.raises(ConfigError, match=f"^{re.escape(told)}$"):
            Own(**{name: value})


def test_another_default_keeps_the_range() -> None:
    assert Deeper().depth == 0.9
    with pytest.raises(ConfigError, match=r"^depth=2 must be above 0"):
        Deeper(depth=2)


def test_a_setting_that_is_replaced_is_checked_by_its_fields_name() -> None:
    with pytest.raises(ConfigError, match=r"^k=0 must be 1 or more\.$"):
        replace(Config().score, k=0)


def test_plain_values_are_refused_by_the_name_of_their_group() -> None:
    assert with_values("own", Own, {"colour": "blue", "depth": 1}) == Own(depth=1, colour=Colour.blue)
    with pytest.raises(ConfigError, match=r"^own\.depth=0\.0 must be above 0 and 1 or less\.$"):
        with_values("own", Own, {"depth": 0})


def test_a_choice_made_by_hand_may_be_given_by_its_text() -> None:
    assert DataConfig(hold_out="outputs").hold_out is HoldOut.outputs  # type: ignore[arg-type]
    assert ScoreConfig(screen="gradient").screen is Screen.gradient  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^colour='green' must be one of red, blue\.$"):
        Own(colour="green")  # type: ignore[arg-type]
