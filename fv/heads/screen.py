"""What a screened run estimated, and which heads it verified for it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fv.heads.verified import Chosen, mean_score
from fv.interventions.engine import Head


class Entered(NamedTuple):
    """A head, verified by chance alone, that entered the top k of a ranking: a relation's, or that of the AIE, None."""

    q_id: str | None
    layer: int
    head: int


class Round(NamedTuple):
    """One choice of heads, and what their effects said of it.

    Attributes:
        verify: heads from the top of each ranking by estimate.
        n_verified: heads that were verified in all.
        entered: heads verified by chance alone that entered a top k; the next round is wider for them.
    """

    verify: int
    n_verified: int
    entered: tuple[Entered, ...]


@dataclass(frozen=True)
class ScreenSettings:
    """How heads were screened and verified.

    Attributes:
        method: how effects were estimated, `gradient` or `integrated`.
        points: points on the way of `integrated`; None for `gradient`.
        key: the column that ranks heads.
        k: heads at the top of a ranking that none verified by chance may enter.
        verify: heads from the top of each ranking by estimate, in the first round.
        verify_random: others, drawn at random.
        verify_max: the most that `verify` may be doubled to; None for all heads.
    """

    method: str
    points: int | None
    key: str
    k: int
    verify: int
    verify_random: int
    verify_max: int | None


@dataclass(frozen=True, eq=False)
class Screen:
    """Estimates of all heads' effects, and the heads that were verified.

    Raises:
        ValueError: a head has an estimate in some relations only.

    Attributes:
        settings: how.
        scores: {q_id: the estimated effect of each head, mean over trials, (n_layers, n_heads) float64}, in nats of the
            target's log probability; NaN, in all relations, for heads that were not to be swept.
        verified: the heads whose effects were measured, each with why.
        rounds: each choice of heads, the last being `verified`.
    """

    settings: ScreenSettings
    scores: Mapping[str, np.ndarray]
    verified: Mapping[Head, Chosen]
    rounds: tuple[Round, ...]

    def __post_init__(self) -> None:
        estimated = np.isfinite([*self.scores.values()])  # (n_relations, n_layers, n_heads)
        if (estimated.any(0) != estimated.all(0)).any():
            raise ValueError("an estimate of a head that was screened is not finite")

    @property
    def candidates(self) -> list[Head]:
        """The heads that were screened, by layer and head."""
        layers, heads = np.nonzero(np.isfinite(mean_score(self.scores)))
        return [Head(layer, head) for layer, head in zip(layers.tolist(), heads.tolist(), strict=True)]

    @property
    def unverified(self) -> list[Head]:
        """The screened heads whose effects were not measured, by layer and head."""
        return [head for head in self.candidates if head not in self.verified]

    def score_of(self, q_id: str | None) -> np.ndarray:
        """The estimates of one relation, or of the AIE: (n_layers, n_heads)."""
        return mean_score(self.scores) if q_id is None else self.scores[q_id]

    def table(self, q_id: str | None) -> pd.DataFrame:
        """One row a screened head, by layer and head: layer, head, score, verified, chosen_by (empty if unverified)."""
        score, why = self.score_of(q_id), self.verified
        rows = [(*head, score[head], head in why, str(why.get(head, ""))) for head in self.candidates]
        return pd.DataFrame(rows, columns=["layer", "head", "score", "verified", "chosen_by"])

    def about(self) -> dict[str, Any]:
        """All but the scores, as JSON."""
        return {
            "settings": asdict(self.settings),
            "rounds": [{**one._asdict(), "entered": [each._asdict() for each in one.entered]} for one in self.rounds],
            "verified": [[*head, why.value] for head, why in self.verified.items()],
        }

    @classmethod
    def of(cls, about: Mapping[str, Any], scores: Mapping[str, np.ndarray]) -> "Screen":
        """One of what `about` gave and its scores.

        Raises:
            KeyError: `about` lacks a part.
            TypeError: a part of it is of another shape.
            ValueError: a head is verified for no known reason, or has an estimate in some relations only.
        """
        rounds = [
            Round(**{**one, "entered": tuple(Entered(**each) for each in one["entered"])}) for one in about["rounds"]
        ]
        verified = {Head(layer, head): Chosen(why) for layer, head, why in about["verified"]}
        return cls(ScreenSettings(**about["settings"]), scores, verified, tuple(rounds))
