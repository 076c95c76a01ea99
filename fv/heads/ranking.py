"""Rankings of heads by effect, and the choice of heads to sweep (spec sections 2 and 5)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from fv.config import ScoreConfig
from fv.errors import ConfigError
from fv.heads.activations import RelationMeans
from fv.interventions.engine import Head
from fv.tables import TableRow


@dataclass(frozen=True)
class Ranking:
    """Settings of a ranking of heads.

    Attributes:
        key: the column that ranks heads, `mean_delta_logprob` or `mean_delta_p`.
        k: number of heads taken from the top.
        leave_one_out: whether each relation is left out of its own AIE.
    """

    key: str
    k: int
    leave_one_out: bool = False

    @classmethod
    def of(cls, score: ScoreConfig) -> "Ranking":
        """Ranking that the settings name."""
        return cls(score.key.value, score.k, score.aie_leave_one_out)


@dataclass(frozen=True)
class VectorHeads:
    """Heads and means that a function vector is built from.

    Attributes:
        heads: its heads, best first.
        ranking: all measured heads, best first.
        means: the means that hold its heads' outputs.
        unverified: heads that a screened run did not measure, ordered by layer and head.
    """

    heads: tuple[Head, ...]
    ranking: tuple[Head, ...]
    means: RelationMeans
    unverified: tuple[Head, ...] = ()

    @cached_property
    def every(self) -> tuple[Head, ...]:
        """All heads that a random draw may take, ordered by layer and head."""
        return tuple(sorted({*self.ranking, *self.unverified}))


def choose_indices(wanted: str | Sequence[int], count: int, name: str = "wanted") -> list[int]:
    """Indices below `count`: every one for `all`, else the listed ones. Error messages call them `name`.

    Raises:
        ConfigError: an index is out of range; the message names the allowed ones.
    """
    if isinstance(wanted, str):
        return list(range(count))
    outside = [i for i in wanted if i >= count]
    if outside:
        raise ConfigError(f"{name}={list(wanted)}: {outside} out of range; this model allows 0 to {count - 1}, or all.")
    return list(wanted)


def heads_to_sweep(
    layers: str | list[int], heads: str | list[int], n_layers: int, n_heads: int, called: Callable[[str], str] = str
) -> list[Head]:
    """Every chosen head of every chosen layer, ordered by layer and head.

    Args:
        layers: `all`, or indices of layers.
        heads: `all`, or indices of heads within each layer.
        n_layers: number of layers of the model.
        n_heads: number of heads per layer.
        called: maps "layers" and "heads" to their names in error messages, such as settings' keys.

    Raises:
        ConfigError: an index is out of range; the message names the allowed ones.
    """
    return [
        Head(layer, head)
        for layer in choose_indices(layers, n_layers, called("layers"))
        for head in choose_indices(heads, n_heads, called("heads"))
    ]


def rank_heads(scores: pd.DataFrame, key: str) -> pd.DataFrame:
    """Sort a CIE or AIE table by `key`, descending; ties by layer, then head, ascending."""
    return scores.sort_values([key, "layer", "head"], ascending=[False, True, True], kind="stable", ignore_index=True)


def top_heads(scores: pd.DataFrame, key: str, k: int, name: str = "k") -> list[Head]:
    """The `k` best heads of one ranking. Error messages call `k` `name`.

    Raises:
        ConfigError: fewer than `k` heads have a score.
    """
    if k > len(scores):
        raise ConfigError(
            f"{name}={k} is more than the {len(scores)} heads that were measured; allowed are 1 to {len(scores)}."
        )
    best = rank_heads(scores, key).head(k)
    return [Head(layer, head) for layer, head in best[["layer", "head"]].to_numpy().tolist()]


def describe_heads(heads: Sequence[Head], scores: pd.DataFrame, key: str) -> list[TableRow]:
    """Ranked heads with their scores, as JSON rows."""
    score = scores.set_index(["layer", "head"])[key]
    return [
        {"rank": rank, "layer": head.layer, "head": head.head, key: float(score[head.layer, head.head])}
        for rank, head in enumerate(heads, 1)
    ]
