"""What `--help` says of the settings: every one of them, from its class."""

from dataclasses import dataclass, field
from enum import StrEnum

from conftest import MakeConfig

from entrypoints.command_line import plugged_in
from fv.analyses import analyses_of, known_analyses
from fv.config import Config, EvaluationConfig
from fv.config.explanations import explanations, first_sentence
from fv.evaluation.conditions import providers_of
from fv.runs.identity import flat


def test_every_setting_is_explained_in_a_sentence() -> None:
    told = explanations(plugged_in=plugged_in())
    analyses = analyses_of({name: {} for name in known_analyses()})
    every = Config(evaluation=EvaluationConfig(conditions=providers_of({})), analysis={**analyses})
    # A mapping of settings that is empty by default has no keys of its own.
    assert [setting.key for setting in told if setting.default != "{}"] == list(flat(every.resolved()))
    assert not [setting for setting in told if len(setting.meaning) < 10 or "\n" in setting.meaning]


def test_a_default_can_be_typed_as_it_is_told(make_config: MakeConfig) -> None:
    needed = {"model.id", "model.name", "run_id"}
    told = [s for s in explanations(plugged_in=plugged_in()) if s.key not in needed]
    as_told = [f"{setting.key}={setting.default}" for setting in told]
    # Analyses that no step runs by itself have settings where they are named.
    named = f"analysis=[{','.join(map(repr, known_analyses()))}]"
    given = [named, "model.id=x", "model.sha256=null"]
    assert make_config(*as_told, *given) == make_config(*given)


class Colour(StrEnum):
    """The colour of it."""

    red = "red"
    blue = "blue"


@dataclass
class Inner:
    depth: float = 0.5
    """How deep.

    Not told."""


@dataclass
class Outer:
    """Not a field's."""

    bare: int = 3
    colour: Colour = Colour.blue
    inner: Inner = field(default_factory=Inner)
    names: list[str] = field(default_factory=lambda: ["a", "b c"])
    """Names, such as v1.0 (of
    two lines). And a second sentence."""
    last: str | None = None

    def method(self) -> None:
        """Of a method."""


def test_a_field_is_explained_by_the_text_under_it_and_a_choice_by_its_class() -> None:
    assert [(s.key, s.default, s.meaning, s.choices) for s in explanations(Outer)] == [
        ("bare", "3", "", ()),
        ("colour", "blue", "The colour of it.", ("red", "blue")),
        ("inner.depth", "0.5", "How deep.", ()),
        ("names", '[a,"b c"]', "Names, such as v1.0 (of two lines).", ()),
        ("last", "null", "", ()),
    ]


def test_a_sentence_ends_at_a_full_stop_and_not_in_a_name() -> None:
    assert first_sentence("Into `a.json`,\nv1.2. More.") == "Into `a.json`, v1.2."
    assert first_sentence("Version 1.2 of it") == "Version 1.2 of it"
