"""Result of an evaluation: the chosen cells, every condition on test trials, contrasts, and the whole grid."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from fv.characters import visible
from fv.config import StatsConfig
from fv.data.origin import Origin
from fv.display import text_table
from fv.errors import ArtifactError, ConfigError, shorten
from fv.evaluation.candidate import NO_VECTOR
from fv.evaluation.selection import CHOICE, DEV, TEST
from fv.evaluation.summary import chosen_cells, summarise, with_held_out_intervals, with_intervals
from fv.evaluation.tables import ALL, KEY
from fv.files import write_npz
from fv.interventions.engine import Cell
from fv.markup import html_table, listing
from fv.tables import LeadingTable, arrays_of, tables_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORM = "function_vectors_result"
SHOWN = [
    *("fv", "eval_qid", "condition", "delta_logprob", "accuracy", "fv_minus", "fv_minus_low", "fv_minus_high"),
    *("ci_low", "ci_high", "layer", "alpha", "draws", "n"),
]
"""Columns of `Result.table`."""
MOST_SHOWN = 20
"""Largest number of rows in the printed table."""


@dataclass(frozen=True, eq=False)
class Result:
    """Result of an evaluation. All numbers come from test trials, which had no part in choosing the cell.

    Attributes:
        rows: one row per (fv, relation, layer, alpha, trial) of the grid, with its part, `dev` or `test`.
        trials: one row per (fv, relation, condition, draw, trial) of the chosen cells on test trials, with the answers.
        tables: `held_out`, `contrasts`, `injection_cost`, `transfer` and so on, as in the CSV files of a run.
        warnings: sentences on problems that the numbers do not show.
        strengths: {vector: {relation: factor on the vector at alpha 1, layer by layer}}; empty if alpha itself is the
            factor.
        stats: level, resamples and method of intervals.
        seed: seed of every draw.
        origin: the model and the prompts of the injections; None if they are unknown.

    Example:
        >>> result = fv.evaluate(lm, vector, trials["antonym"], layers=[11, 17], alphas=[1, 2])
        >>> result.cell.layer in (11, 17)
        True
    """

    rows: pd.DataFrame
    trials: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    warnings: tuple[str, ...] = ()
    strengths: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)
    stats: StatsConfig = field(default_factory=StatsConfig)
    seed: int = 42
    origin: Origin | None = None

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Chosen cell of each (fv, relation).

        Columns include layer, alpha, n_dev, n_test, means over test trials, the vector's norm, and this norm relative
        to the residual stream's (missing without effects, whose norms it is relative to).
        """
        chosen = chosen_cells(self.rows, {}, self.stats, self.seed).drop(columns="relative_norm", errors="ignore")
        chosen = with_held_out_intervals(chosen, self.tables["held_out"])
        injected = self.trials[self.trials["condition"] == "fv"].drop_duplicates(CHOICE)
        return chosen.merge(injected[[*CHOICE, "relative_norm"]].astype({"relative_norm": float}), on=CHOICE)

    @property
    def cell(self) -> Cell:
        """Chosen cell, if there is a single vector on a single relation; its alpha is a factor on the vector.

        Raises:
            ConfigError: there are several cells; `cell_of` returns the cell of a named vector and relation.
        """
        if len(self.cells) != 1:
            raise ConfigError(f"There are {len(self.cells)} cells, each of a (vector, relation): use cells or cell_of.")
        return self.cell_of(*self.cells.loc[0, ["fv", "eval_qid"]])

    def cell_of(self, fv: str, relation: str) -> Cell:
        """Chosen cell of a vector, given by name, on a relation; its alpha is a factor on the vector.

        Raises:
            ConfigError: there is no such cell.
        """
        found = self.cells[(self.cells["fv"] == fv) & (self.cells["eval_qid"] == relation)]
        if found.empty:
            there = [" on ".join(pair) for pair in self.cells[["fv", "eval_qid"]].itertuples(index=False)]
            raise ConfigError(f"There is no cell of {fv!r} on {relation!r}, only of {shorten(there)}.")
        layer, alpha = int(found["layer"].iloc[0]), float(found["alpha"].iloc[0])
        of_vector = self.strengths.get(fv, {}).get(relation)
        return Cell(layer, alpha if of_vector is None else alpha * of_vector[layer])

    @property
    def headline(self) -> pd.DataFrame:
        """Main results, one row per (fv, relation) (`fv.evaluation.headline.headline_table`).

        Its columns, each with an interval, include: `delta_logprob` and `delta_logit_difference`, in nats; both minus
        those of the vector of corrupted prompts, if the control `corrupted_prompts` was run; `p` and `rank` of the
        right answer; and `share_of_few_shot`. If the control `refits` was run, intervals include the choice of heads.
        """
        return self.tables["headline"].copy()

    @cached_property
    def table(self) -> pd.DataFrame:
        """Results of all conditions on test trials, one row per (fv, relation, condition), averaged over draws.

        Columns: fv, eval_qid, condition; delta_logprob, the change in the right answer's log probability, in nats;
        accuracy of the first token; `fv_minus`, the vector's log probability minus this condition's, with its interval
        over trials and draws; ci_low and ci_high of delta_logprob, if there is a single draw; layer, alpha, draws, n.
        """
        every = self.tables["held_out"]
        every = every[every["subset"] == ALL]
        by = [*KEY, "draw"]
        level = every[every["metric"] == "top1"][[*by, "layer", "alpha", "n", "mean"]]
        change = every[every["metric"] == "delta_logprob"][[*by, "mean", "ci_low", "ci_high"]]
        # Changes are relative to the zero-shot prompt, so it has none itself.
        each = level.rename(columns={"mean": "accuracy"}).merge(
            change.rename(columns={"mean": "delta_logprob"}), on=by, how="left"
        )
        found = each.groupby(KEY, sort=False, as_index=False).agg(
            draws=("draw", "size"),
            layer=("layer", _only),
            alpha=("alpha", _only),
            n=("n", "first"),
            accuracy=("accuracy", "mean"),
            delta_logprob=("delta_logprob", "mean"),
            ci_low=("ci_low", _only),
            ci_high=("ci_high", _only),
        )
        table = found.merge(self._against(), on=KEY, how="left").astype({"layer": "Int64"})
        run = {name: place for place, name in enumerate(dict.fromkeys(self.trials["condition"]))}
        order = table.assign(condition=table["condition"].map(run)).sort_values(["eval_qid", "fv", "condition"]).index
        return LeadingTable(table.loc[order, SHOWN].reset_index(drop=True))

    def _against(self) -> pd.DataFrame:
        """Vector minus each condition, one row per (fv, relation, condition), in the form of `table`."""
        contrasts = self.tables["contrasts"]
        is_shown = (contrasts["condition"] == "fv") & (contrasts["subset"] == ALL) & (contrasts["metric"] == "logprob")
        names = {"minus": "condition", "mean": "fv_minus", "ci_low": "fv_minus_low", "ci_high": "fv_minus_high"}
        own = contrasts[is_shown].drop(columns="condition").rename(columns=names)[[*KEY, *list(names.values())[1:]]]
        # A baseline belongs to no vector and is compared with every vector. Its row can show the comparison only if
        # there is a single vector.
        n_vectors = own.groupby("eval_qid")["fv"].nunique()
        alone = own[own["eval_qid"].map(n_vectors) == 1].assign(fv=NO_VECTOR)
        return pd.concat([own, alone], ignore_index=True)

    @cached_property
    def grid(self) -> pd.DataFrame:
        """Means of every cell of the grid by part: `dev`, which chose the cell, and `test`, which had no part in it."""
        parts = []
        for part in (DEV, TEST):
            own = self.rows[self.rows["part"] == part]
            if not own.empty:
                parts.append(with_intervals(summarise(own), own, self.stats, self.seed).assign(part=part))
        return pd.concat(parts, ignore_index=True)

    def plot(self, fv: str | None = None, relation: str | None = None) -> "Figure":
        """Plot the effect by layer on test trials, one line per alpha, with zero-shot, few-shot and random vectors.

        Args:
            fv: the vector's name, needed if there are several.
            relation: the relation, needed if there are several.

        Raises:
            ConfigError: there is no such pair, or there are several.
            ImportError: matplotlib is not installed.
        """
        from fv.figures.effect_by_layer import effect_by_layer

        chosen = self.cells
        for column, given in (("fv", fv), ("eval_qid", relation)):
            chosen = chosen if given is None else chosen[chosen[column] == given]
        if len(chosen) != 1:
            raise ConfigError(f"{len(chosen)} (vector, relation) fit fv={fv!r}, relation={relation!r}; name one.")
        (fv, relation), cell = chosen[["fv", "eval_qid"]].iloc[0], tuple(chosen[["layer", "alpha"]].iloc[0])
        here = self.grid[(self.grid["part"] == TEST) & (self.grid["fv"] == fv) & (self.grid["eval_qid"] == relation)]
        is_chosen = [tuple(pair) == cell for pair in here[["layer", "alpha"]].itertuples(index=False)]
        return effect_by_layer(
            here.assign(chosen=is_chosen), baselines=self._levels(fv, relation), confidence=self.stats.confidence
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write the result into one file; `fv.load_result` reads it back exactly."""
        tables = {"rows": self.rows, "trials": self.trials, **{f"table.{k}": t for k, t in self.tables.items()}}
        about = {
            "form": FORM,
            "warnings": list(self.warnings),
            "strengths": {fv: dict(of) for fv, of in self.strengths.items()},
            "stats": asdict(self.stats),
            "seed": self.seed,
            "origin": None if self.origin is None else self.origin.as_json(),
        }
        write_npz(Path(path), about=np.array(json.dumps(about, ensure_ascii=False)), **arrays_of(tables))

    def __repr__(self) -> str:
        names, rows = self._small_table
        title = "Test trials" if self.origin is None else f"Test trials of {self.origin.model}"
        lines = [text_table(title, names, rows[:MOST_SHOWN], n_text=2)]
        if len(rows) > MOST_SHOWN:
            lines.append(f"… and {len(rows) - MOST_SHOWN} more rows; all are in .headline.")
        if self.warnings:
            lines.append(f"Mind .warnings ({len(self.warnings)}): {visible(self.warnings[0])}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_table(*self._small_table) + listing(self.warnings)

    @property
    def _small_table(self) -> tuple[list[str], list[list[str]]]:
        """Main numbers as text: names of columns, and one row per (fv, relation) at its chosen cell."""
        names = ["vector", "on", "layer", "α", "Δ log p", f"{self.stats.confidence:.0%} interval"]
        names += ["minus corrupted", "accuracy", "zero-shot", "few-shot"]
        rows = [
            [
                *(row["fv"], row["eval_qid"], f"{row['layer']}", f"{row['alpha']:g}", _signed(row["delta_logprob"])),
                f"{_signed(row['delta_logprob_ci_low'])} to {_signed(row['delta_logprob_ci_high'])}",
                _signed(row["minus_corrupted"]),
                *(_level(row[name]) for name in ("accuracy", "accuracy_before", "few_shot_accuracy")),
            ]
            for row in self.tables["headline"].to_dict("records")
        ]
        return names, rows

    def _levels(self, fv: str, relation: str) -> dict[str, float]:
        """{condition: its mean change, averaged over draws}, for the horizontal lines of the plot."""
        of_pair = self.table[(self.table["eval_qid"] == relation) & self.table["fv"].isin([fv, ""])]
        names = ("few_shot", "random_vector")
        found = of_pair[of_pair["condition"].isin(names)].set_index("condition")["delta_logprob"]
        return {name: float(found[name]) for name in names if name in found}


def load_result(path: str | PathLike[str]) -> Result:
    """Read a result from a file that `Result.save` wrote.

    Raises:
        ArtifactError: the file is missing, truncated, or does not hold a result.

    Example:
        >>> result.save(folder / "antonym.npz")
        >>> fv.load_result(folder / "antonym.npz").cell == result.cell
        True
    """
    file = Path(path)
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            tables = tables_of(arrays)
        if about["form"] != FORM:
            raise ValueError("it is of another form")
        stats = TypeAdapter(StatsConfig).validate_python(about["stats"])
        rows, trials = tables.pop("rows"), tables.pop("trials")
        named = {name.removeprefix("table."): table for name, table in tables.items()}
        origin = None if about["origin"] is None else Origin.parse(about["origin"])
        return Result(rows, trials, named, tuple(about["warnings"]), about["strengths"], stats, about["seed"], origin)
    except FileNotFoundError:
        raise ArtifactError(f"{file} is missing.") from None
    except Exception as error:  # a damaged zip fails in many ways
        raise ArtifactError(f"{file} is truncated or holds no result ({type(error).__name__}).") from None


def _signed(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:+.2f}"


def _level(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.2f}"


def _only(values: "pd.Series[Any]") -> Any:
    """Return the value if it is the same in all draws, else a missing value."""
    return values.iloc[0] if values.nunique(dropna=False) == 1 else np.nan
