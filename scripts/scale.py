"""Tables of docs/scale.md: prices of a run at the shapes of larger models, computed by `fv.plan`.

python scripts/scale.py            # draw the tables into the page
python scripts/scale.py --check    # change nothing; exit 1 if the page is out of date
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import fv
from fv.config import embedded_model
from fv.models.tokenizer import load_tokenizer
from fv.pricing.price import WAYS, Price
from fv.steps.price_tables import bytes_shown, scaled, seconds_shown

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scale.md"
BEGIN, END = "<!-- drawn by scripts/scale.py -->", "<!-- end of the drawing -->"
SHAPES = ("llama32_1b", "llama2_7b", "llama31_70b", "llama31_405b")
TFLOPS, GB_PER_S = 400, 2700
"""Speed of an H100 in bf16: 40 % of 989 TFLOP/s, 80 % of 3,350 GB/s."""
DEVICE = 80e9
"""Memory of an H100 in bytes."""
ALPHAS = (1.0, 2.0)
WORKERS = (1, 8, 64)


def prices(shapes: Sequence[str] = SHAPES) -> list[Price]:
    """Price the page's workload at each shape."""
    trials = fv.sample_trials(fv.read_relations(), load_tokenizer(embedded_model()), fit=12)
    known = {"alphas": ALPHAS, "dtype": "bf16", "tflops": TFLOPS, "gb_per_s": GB_PER_S, "workers": WORKERS}
    return [fv.plan(shape, trials, **known) for shape in shapes]  # type: ignore[arg-type]  # each key has its own type


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table in Markdown."""
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def sizes(found: Sequence[Price]) -> str:
    """Make the table of memory, arithmetic and disk."""
    rows = []
    for price in found:
        shape, totals = price.shape, [price.total(way) for way in WAYS]
        devices = -(-max(total.memory for total in totals) // DEVICE)
        above = [bytes_shown(total.memory - shape.weight_bytes) for total in totals]
        arithmetic = [f"{scaled(total.flops)}FLOP" for total in totals]
        known = [f"{shape.name}, {shape.n_layers} × {shape.n_heads}", bytes_shown(shape.weight_bytes)]
        rows.append([*known, *above, f"{devices:.0f}", *arithmetic, bytes_shown(sum(price.disk))])
    heads = ["shape", "weights", "above them, exact", "screened", "devices", "exact", "screened", "disk"]
    return table(heads, rows)


def times(found: Sequence[Price]) -> str:
    """Make the table of the times of both ways for each number of workers, including start-up."""
    rows = []
    for price in found:
        each = [seconds_shown(seconds) for way in WAYS for seconds in price.total(way).seconds.values()]
        rows.append([price.shape.name, seconds_shown(sum(s or 0 for s in price.start_up.values())), *each])
    return table(["shape", "start-up", *(f"{way}, {n}" for way in WAYS for n in WORKERS)], rows)


def stages(price: Price) -> str:
    """Make the table of one worker's time by stage."""
    columns = ["step", "stage", "only", "forwards", "flops", "seconds_1"]
    rows = [
        [step, stage, only, f"{forwards:,.0f}", scaled(flops), seconds_shown(seconds)]
        for step, stage, only, forwards, flops, seconds in price.table[columns].itertuples(index=False)
    ]
    return table(["step", "stage", "only", "forwards", "FLOP", "one worker"], rows)


def drawing() -> str:
    """Make all tables."""
    found = prices()
    largest = next(price for price in found if price.shape.name == "llama31_70b")
    return f"{sizes(found)}\n\n{times(found)}\n\nStage by stage, {largest.shape.name}:\n\n{stages(largest)}"


def drawn(page: str, tables: str) -> str:
    """Put the tables between the page's two markers."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Draw or check the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="exit 1 if the page is out of date")
    before = PAGE.read_text(encoding="utf-8")
    after = drawn(before, drawing())
    if not parser.parse_args().check:
        PAGE.write_text(after, encoding="utf-8")
    elif after != before:
        raise SystemExit("docs/scale.md is out of date: run python scripts/scale.py.")


if __name__ == "__main__":
    main()
