"""Settings as they are typed: what a template on the command line means, and how any value is written for one."""

import dataclasses

import pytest
from conftest import MakeConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from fv.config import TemplateConfig
from fv.config.overrides import shown_value, typed_template
from fv.data.relations import Pair
from fv.data.templates import render
from fv.errors import ConfigError

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.text("\\ntr\"'\n ", max_size=12)


def read(override: str) -> object:
    """The value that the command line makes of an override."""
    (parsed,) = OverridesParser.create().parse_overrides([override])
    return parsed.value()


@pytest.mark.parametrize(
    "override",
    [
        r'data.template.demo="{exA} →\t{exB}\n"',
        r"data.template.demo='{exA} →\t{exB}\n'",
        r"data.template={demo: '{exA} →\t{exB}\n'}",
        "data.template.demo='{exA} →\t{exB}\n'",
    ],
)
def test_escapes_typed_in_a_template_are_what_they_say(make_config: MakeConfig, override: str) -> None:
    template = make_config(override).data.template
    assert template.demo == "{exA} →\t{exB}\n"
    assert render(template, [Pair("hot", "cold")], "up") == "hot →\tcold\nQ: up\nA:"


def test_a_backslash_is_typed_as_two_and_any_other_escape_is_refused(make_config: MakeConfig) -> None:
    assert make_config(r"data.template.query='\\n {exA}'").data.template.query == r"\n {exA}"
    for typed in (r"\d{exA}", r"{exA}\x", "{exA}\\ "):
        with pytest.raises(ConfigError, match=r"data\.template\.query=.* is no escape\. A template knows \\n"):
            make_config(f"data.template.query='{typed}'")


@pytest.mark.parametrize("text", [r"{exA}\n", r"\d{exA}", "{exA}\\"])
def test_a_template_given_in_python_is_text_as_it_stands(text: str) -> None:
    assert render(TemplateConfig(query=text), [], "up") == text.replace("{exA}", "up")


@given(before=texts, after=texts)
def test_any_template_is_written_so_that_it_is_read_as_itself(before: str, after: str) -> None:
    template = TemplateConfig(f"{before}{{exA}}{{exB}}{after}", f"{before}{{exA}}{after}", f" {before}{{exB}}{after}")
    typed = read(f"data.template={shown_value('data.template', dataclasses.asdict(template))}")
    assert isinstance(typed, dict)
    assert typed_template(TemplateConfig(**{name: str(text) for name, text in typed.items()})) == template


@given(st.recursive(st.none() | st.booleans() | st.integers() | texts, lambda inner: st.lists(inner, min_size=1)))
def test_any_value_is_written_so_that_the_command_line_reads_it(value: object) -> None:
    def plain(found: object) -> object:
        return [plain(each) for each in found] if isinstance(found, list) else getattr(found, "text", found)

    assert plain(read(f"key={shown_value('key', value)}")) == value
