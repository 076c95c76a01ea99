"""The relations that are computed: over reviewed words, and over sequences."""

import calendar
import hashlib
import itertools
import string
import unicodedata
from collections.abc import Iterator

from relations import Pairs, chosen, relation


@relation("algorithmic", reviewed=True)
def capitalize() -> Pairs:
    """`str.capitalize` of reviewed words."""
    return [(word, word.capitalize()) for word in chosen("capitalize")]


@relation("algorithmic")
def uppercase() -> Pairs:
    """`str.upper` of reviewed words."""
    return [(word, word.upper()) for word in chosen("capitalize")]


@relation("algorithmic")
def first_letter_upper() -> Pairs:
    """First letter of reviewed words, as a capital."""
    return [(word, word[0].upper()) for word in chosen("capitalize")]


@relation("algorithmic")
def last_letter() -> Pairs:
    """Last letter of reviewed words."""
    return [(word, word[-1]) for word in chosen("capitalize")]


def _threes(salt: str, count: int = 250) -> Iterator[list[str]]:
    """Threes of reviewed words. Drawn by hash: no library's generator can change them."""
    words = sorted(chosen("capitalize"))
    for i in range(count):
        yield sorted(words, key=lambda word, i=i: hashlib.sha256(f"{salt} {i} {word}".encode()).digest())[:3]


@relation("algorithmic")
def choose_first_of_3() -> Pairs:
    """The first of three reviewed words."""
    return [(", ".join(three), three[0]) for three in _threes("first")]


@relation("algorithmic")
def alphabetically_first_3() -> Pairs:
    """The alphabetically first of three reviewed words."""
    return [(", ".join(three), min(three)) for three in _threes("alphabet")]


ONES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
ORDINALS = [
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh"),
    "twelfth",
]


@relation("algorithmic")
def next_item() -> Pairs:
    """The next of a sequence: months, days, letters, number words, ordinals, Greek letters. Python and Unicode."""
    numbers = [*ONES, *(f"{ten}{one}" for ten in TENS for one in ("", *(f"-{digit}" for digit in ONES[1:10])))]
    months, days = list(calendar.month_name)[1:], list(calendar.day_name)
    codes = [code for code in range(0x3B1, 0x3CA) if code != 0x3C2]  # without the final sigma
    greek = [unicodedata.name(chr(code)).split()[-1].lower() for code in codes]
    runs = [[*months, months[0]], [*days, days[0]], list(string.ascii_uppercase), numbers, ORDINALS, greek]
    return [pair for run in runs for pair in itertools.pairwise(run)]
