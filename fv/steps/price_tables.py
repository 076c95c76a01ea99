"""Price tables on the terminal."""

from collections.abc import Mapping
from typing import Any

from fv.display import print_table, standard_output
from fv.pricing.price import WAYS, Price
from fv.pricing.shape import Shape

SIZES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def print_price(price: Price) -> None:
    """Print all stages, the totals of both ways, and the start-up, memory and disk."""
    shape, console = price.shape, standard_output()
    workers = [f"{n} worker{'s' * (n > 1)}" for n in price.workers] if price.throughput else []
    names = ["step", "stage", "only", "trials", "prompts", "tokens", "forwards", "FLOP", "above weights", *workers]
    title = f"{shape.name}: {_about(shape)}"
    print_table(title, names, [*_stages(price), *_totals(price)], n_text=3)
    for note in _notes(price):
        console.print(note)


def seconds_shown(seconds: float | None) -> str:
    """A time with its unit."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def bytes_shown(n_bytes: float) -> str:
    """A size with its unit; units differ by factors of 10³."""
    return f"{scaled(n_bytes)}B"


def scaled(number: float) -> str:
    """A number with the prefix of a unit, such as `1.5 k`."""
    for size, prefix in SIZES:
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number:.3g} "


def _about(shape: Shape) -> str:
    size = f"{shape.n_layers} layers × {shape.n_heads} heads, {scaled(shape.n_parameters).strip()} parameters"
    return f"{size}, weights {bytes_shown(shape.weight_bytes)}"


def _stages(price: Price) -> list[list[str]]:
    return [_row({str(name): value for name, value in row.items()}) for row in price.table.to_dict("records")]


def _row(row: Mapping[str, Any]) -> list[str]:
    counts = [f"{row[name]:,}" for name in ("trials", "prompts", "tokens")]
    costs = [f"{row['forwards']:,.1f}", scaled(row["flops"]), bytes_shown(row["memory"])]
    seconds = [seconds_shown(value) for name, value in row.items() if name.startswith("seconds_")]
    return [row["step"], row["stage"], row["only"], *counts, *costs, *seconds]


def _totals(price: Price) -> list[list[str]]:
    rows = []
    for way in WAYS:
        total = price.total(way)
        seconds = [seconds_shown(value) for value in total.seconds.values()]
        above = bytes_shown(total.memory - price.shape.weight_bytes)
        rows.append(
            ["all", "with start-up", way, "", "", "", f"{total.forwards:,.1f}", scaled(total.flops), above, *seconds]
        )
    return rows


def _notes(price: Price) -> list[str]:
    start = ", ".join(f"{what} {seconds_shown(seconds)}" for what, seconds in price.start_up.items())
    disk = price.disk
    lines = [
        f"Start-up of each worker: {start}.",
        f"Disk: units {bytes_shown(disk.units)}, results {bytes_shown(disk.results)}.",
        f"A forward is one of a few-shot prompt, {price.n_tokens:.0f} tokens.",
    ]
    if price.throughput is not None:
        lines.append(f"Times: {price.throughput.about}.")
    return [*lines, *price.notes]
