"""Tables as a run's files have them, a figure of each kind made of them, and what a drawn figure says."""

import io
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

from fv.figures.contrasts import contrast_forest
from fv.figures.convergence import ranking_convergence
from fv.figures.cosines import cosine_heatmap
from fv.figures.cost import effect_against_cost
from fv.figures.effect_by_layer import effect_by_layer
from fv.figures.head_count import effect_by_head_count
from fv.figures.head_overlap import overlap_heatmap
from fv.figures.heads import head_heatmap
from fv.figures.inclusion import inclusion_probabilities
from fv.figures.null import null_figure
from fv.figures.transfer import transfer_heatmap
from fv.figures.trials import before_and_after

VALUE = "mean_delta_logprob"
NAMES = ("antonym", "country_capital", "verb_past")


def head_scores(n_layers: int = 4, n_heads: int = 3, seed: int = 0, **columns: Any) -> pd.DataFrame:
    """A table as `cie_scores.csv` is, with intervals; some of them exclude zero."""
    heads = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    effect = np.random.default_rng(seed).normal(size=len(heads))
    table = pd.DataFrame(heads, columns=["layer", "head"])
    ends = {"ci_low": effect - 0.7, "ci_high": effect + 0.7, "chosen": effect >= np.sort(effect)[-2:][0]}
    return table.assign(n_trials=12, **{VALUE: effect}, **ends, **columns)


def cells(n_layers: int = 5, alphas: tuple[float, ...] = (1.0, 2.0)) -> pd.DataFrame:
    """A table as the rows of `eval_summary.json` are, of one vector."""
    grid = pd.DataFrame([(3 * i, alpha) for i in range(n_layers) for alpha in alphas], columns=["layer", "alpha"])
    effect = np.sin(grid["layer"]) * grid["alpha"]
    ends = {f"{VALUE}_ci_low": effect - 0.5, f"{VALUE}_ci_high": effect + 0.5}
    chosen = (grid["layer"] == 0) & (grid["alpha"] == alphas[0])
    return grid.assign(fv="antonym", eval_qid="antonym", n_trials=20, chosen=chosen, **{VALUE: effect}, **ends)


def transfer(names: tuple[str, ...] = NAMES) -> pd.DataFrame:
    """A table as `transfer.csv` is."""
    pairs = pd.DataFrame([(fv, on) for fv in names for on in names], columns=["fv", "eval_qid"])
    effect = np.random.default_rng(1).normal(scale=2, size=len(pairs))
    ends = {"ci_low": effect - 1, "ci_high": effect + 1}
    against = {"effect_minus_control": effect - 1, "control_ci_low": effect - 2, "control_ci_high": effect}
    return pairs.assign(n=14, effect=effect, **ends, **against)


def cosines(names: tuple[str, ...] = NAMES) -> pd.DataFrame:
    """A table as `fv_cosines.csv` is."""
    vectors = np.random.default_rng(2).normal(size=(len(names), 8))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    table = pd.DataFrame(np.clip(units @ units.T, -1, 1), columns=list(names))
    table.insert(0, "fv", list(names), allow_duplicates=True)
    return table


def top_heads(names: tuple[str, ...] = NAMES, k: int = 5) -> pd.DataFrame:
    """The chosen heads of each relation."""
    rng = np.random.default_rng(3)
    rows = [(name, *divmod(int(place), 4)) for name in names for place in rng.choice(16, k, replace=False)]
    return pd.DataFrame(rows, columns=["q_id", "layer", "head"])


def by_head_count(names: tuple[str, ...] = NAMES, counts: tuple[int, ...] = (1, 2, 5, 10)) -> pd.DataFrame:
    """Rows as `chosen` of `eval_summary.json` has them, one a (relation, k)."""
    rows = pd.DataFrame([(name, k) for name in names for k in counts], columns=["eval_qid", "k"])
    effect = np.random.default_rng(4).normal(2, 1, size=len(rows))
    ends = {f"{VALUE}_ci_low": effect - 0.5, f"{VALUE}_ci_high": effect + 0.5}
    return rows.assign(n_test=14, chosen=rows["k"] == counts[0], **{VALUE: effect}, **ends)


def curves(names: tuple[str, ...] = NAMES) -> pd.DataFrame:
    """The convergence of rankings, of eight trials each."""
    rows = [
        {
            "ranking": name,
            "n_trials": n,
            "overlap_with_all": 0.2 + 0.1 * n,
            **dict.fromkeys(("overlap_apart", "spearman_apart"), 0.1 * n + 0.05 * at if n <= 4 else None),
        }
        for at, name in enumerate(names)
        for n in range(2, 9)
    ]
    return pd.DataFrame(rows)


def head_stability(n_heads: int = 30, **columns: Any) -> pd.DataFrame:
    """Rows of one ranking as `head_stability.csv` has them."""
    rank = np.arange(1, n_heads + 1)
    return pd.DataFrame({"rank": rank, "layer": rank // 4, "head": rank % 4, "inclusion": 1 / rank}).assign(**columns)


def contrasts(names: tuple[str, ...] = NAMES) -> pd.DataFrame:
    """A table as `contrasts.csv` is, of one subset."""
    against = ("random_vector", "corrupted_prompts", "few_shot")
    rows = [("fv", minus, name, metric) for name in names for minus in against for metric in ("logprob", "top1")]
    table = pd.DataFrame(rows, columns=["condition", "minus", "eval_qid", "metric"])
    mean = np.random.default_rng(5).normal(1, 2, size=len(table))
    return table.assign(n=14, mean=mean, ci_low=mean - 1, ci_high=mean + 1)


def held_out(names: tuple[str, ...] = NAMES) -> pd.DataFrame:
    """A table as `held_out.csv` is, of one subset and metric."""
    rows = [("fv", name, name, 0) for name in names] + [("random_vector", n, n, d) for n in names for d in (0, 1)]
    rows += [("few_shot", "", name, 0) for name in names]
    table = pd.DataFrame(rows, columns=["condition", "fv", "eval_qid", "draw"])
    mean = np.random.default_rng(6).normal(2, 1, size=len(table))
    return table.assign(metric="delta_logprob", n=14, mean=mean, ci_low=mean - 0.5, ci_high=mean + 0.5)


def injection_cost(names: tuple[str, ...] = NAMES) -> pd.DataFrame:
    """A table as `injection_cost.csv` is."""
    own = held_out(names)
    kept = own[own["condition"] != "few_shot"]
    kl = np.random.default_rng(7).uniform(0, 2, size=len(kept))
    return kept.assign(metric="kl", n=32, mean=kl, ci_low=kl * 0.9, ci_high=kl * 1.1)


def null_tables(names: tuple[str, ...] = NAMES) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables as `null_draws.csv` and `null_p.csv` are."""
    rng, contrasts = np.random.default_rng(9), [("corrupted_prompts", "logprob"), ("zero_shot", "logprob")]
    draws = pd.DataFrame(
        [(name, draw, *contrast) for name in names for draw in range(10) for contrast in contrasts],
        columns=["q_id", "draw", "minus", "metric"],
    )
    found = pd.DataFrame([(name, *own) for name in names for own in contrasts], columns=["fv", "minus", "metric"])
    found = found.assign(eval_qid=found["fv"], condition="fv", p_greater=1 / 31, mean=rng.normal(3, 1, len(found)))
    return draws.assign(condition="fv", mean=rng.normal(size=len(draws))), found


def trial_rows(n: int = 8, name: str = "antonym") -> pd.DataFrame:
    """Rows as `held_out_trials.jsonl` has them, of one relation, vector and draw."""
    rng = np.random.default_rng(8)
    before = rng.normal(-6, 1, size=n)
    tables = [
        pd.DataFrame({"condition": condition, "trial_id": [f"t{i}" for i in range(n)], "logprob": values})
        for condition, values in (("zero_shot", before), ("fv", before + rng.normal(1, 2, n)), ("few_shot", before + 4))
    ]
    return pd.concat(tables, ignore_index=True).assign(eval_qid=name)


FIGURES = {
    "one relation": lambda: head_heatmap(head_scores(), confidence=0.95),
    "relations": lambda: head_heatmap(pd.concat([head_scores(q_id=q, seed=ord(q)) for q in "abcde"])),
    "effect": lambda: effect_by_layer(cells(), baselines={"few_shot": (3.0, 2.5, 3.5), "zero_shot": 0.0}),
    "transfer": lambda: transfer_heatmap(transfer(), confidence=0.95),
    "cosines": lambda: cosine_heatmap(cosines()),
    "overlap": lambda: overlap_heatmap(top_heads()),
    "head count": lambda: effect_by_head_count(by_head_count(), confidence=0.95),
    "convergence": lambda: ranking_convergence(curves(), 5),
    "inclusion": lambda: inclusion_probabilities(head_stability(), 5, 12),
    "forest": lambda: contrast_forest(contrasts(), confidence=0.95),
    "cost": lambda: effect_against_cost(held_out(), injection_cost(), confidence=0.95),
    "trials": lambda: before_and_after(trial_rows()),
    "null": lambda: null_figure(*null_tables()),
}
"""{name: makes a figure of that kind}, at least one of each kind."""
OF_NAME = {
    "heads": lambda name: head_heatmap(pd.concat([head_scores(q_id=each) for each in (name, "b", "c")])),
    "effect": lambda name: effect_by_layer(cells().assign(fv=name, eval_qid=name)),
    "transfer": lambda name: transfer_heatmap(transfer((name, "b", "c"))),
    "cosines": lambda name: cosine_heatmap(cosines((name, "b", "c"))),
    "overlap": lambda name: overlap_heatmap(top_heads((name, "b", "c"))),
    "head count": lambda name: effect_by_head_count(by_head_count((name, "b"))),
    "convergence": lambda name: ranking_convergence(curves((name, "b")), 5),
    "inclusion": lambda name: inclusion_probabilities(head_stability(ranking=name), 5, 12),
    "forest": lambda name: contrast_forest(contrasts((name, "b"))),
    "cost": lambda name: effect_against_cost(held_out((name,)), injection_cost((name,))),
    "trials": lambda name: before_and_after(trial_rows(name=name)),
    "null": lambda name: null_figure(*null_tables((name, "b"))),
}
"""{kind: makes a figure of it that shows a relation's name}."""


def texts(figure: Figure) -> list[Text]:
    """What is drawn: not the labels of ticks beyond an axis' ends."""
    figure.canvas.draw()
    beyond: set[Text] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = (tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high)
            beyond.update(label for tick in ticks for label in (tick.label1, tick.label2))
    every = (each for each in figure.findobj(Text) if each not in beyond)
    return [each for each in every if each.get_text().strip() and each.get_visible()]


def words(figure: Figure) -> str:
    return " | ".join(each.get_text() for each in texts(figure))


def drawn(figure: Figure, form: str = "png") -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=form)
    return file.getvalue()
