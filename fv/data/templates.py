"""Templates: texts that pairs become in prompts, as a whole or piece by piece (spec section 5)."""

import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fv.config import TemplateConfig, template_preset, template_presets
from fv.data.relations import Pair
from fv.errors import ConfigError
from fv.models.site import TokenClass

_DEMO = {"{exA}": TokenClass.demo_input, "{exB}": TokenClass.demo_output}
_QUERY = {"{exA}": TokenClass.query}


class Piece(NamedTuple):
    """A part of a prompt's text: a text of a pair, or text of the template between two of them."""

    token_class: TokenClass
    text: str


def template_of(given: str | TemplateConfig) -> TemplateConfig:
    """The template of a name; a template is returned unchanged.

    Raises:
        ConfigError: there is no template of this name.
    """
    if isinstance(given, TemplateConfig):
        return given
    if not isinstance(given, str):
        names = ", ".join(template_presets())
        raise ConfigError(f"template={given!r} must be a template's name ({names}) or a TemplateConfig.")
    return template_preset(given)


def render(template: TemplateConfig, demos: Sequence[Pair], query: str) -> str:
    """The text of a prompt: the demonstrations, then the query's input."""
    shown = "".join(_fill(template.demo, pair.exA, pair.exB) for pair in demos)
    return shown + _fill(template.query, query, "")


def render_target(template: TemplateConfig, output: str) -> str:
    """The text of the right answer as it follows a prompt."""
    return _fill(template.target, "", output)


def pieces_of(template: TemplateConfig, demos: Sequence[Pair], query: str) -> list[Piece]:
    """The pieces of a prompt's text, none of them empty: joined, they are the result of `render`.

    Example:
        >>> [piece.text for piece in pieces_of(TemplateConfig(), [], "hot")]
        ['Q: ', 'hot', '\\nA:']
    """
    shown = (_pieces(template.demo, pair, _DEMO, TokenClass.delimiter) for pair in demos)
    asked = _pieces(template.query, Pair(query, ""), _QUERY, TokenClass.template)
    return [piece for piece in itertools.chain(*shown, asked) if piece.text]


def _pieces(text: str, pair: Pair, classes: dict[str, TokenClass], ending: TokenClass) -> Iterator[Piece]:
    """The pieces of a filled text of a template, of which the part after the last pair text is an `ending`."""
    filled = {"{exA}": pair.exA, "{exB}": pair.exB}
    *parts, last = re.split(r"(\{ex[AB]\})", text)
    for part in parts:
        yield Piece(classes.get(part, TokenClass.template), filled.get(part, part))
    yield Piece(ending, last)


def _fill(text: str, ex_a: str, ex_b: str) -> str:
    # A pair's text is inserted unchanged, braces and percent signs included.
    return _format(text) % {"exA": ex_a, "exB": ex_b}


@functools.cache
def _format(text: str) -> str:
    """A template's text as a format for the % operator."""
    return re.sub(r"\{(ex[AB])\}", r"%(\1)s", text.replace("%", "%%"))
