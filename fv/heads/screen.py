"""Screen of a run: estimated effects of all heads, and the heads that were then verified."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pandas as pd

from fv.files import JsonObject
from fv.heads.verification import Chosen, mean_score
from fv.interventions.engine import Head


class Entered(NamedTuple):
    """A randomly verified head that entered the top k of a relation's ranking, or of the AIE's (`q_id` None)."""

    q_id: str | None
    layer: int
    head: int


class Round(NamedTuple):
    """One round of choosing heads, and the random heads whose measured effects contradict the choice.

    Attributes:
        verify: number of heads taken from the top of each ranking by estimate.
        n_verified: total number of verified heads.
        entered: randomly verified heads that entered a top k; if there are any, the next round verifies more heads.
    """

    verify: int
    n_verified: int
    entered: tuple[Entered, ...]


@dataclass(frozen=True)
class ScreenSettings:
    """Settings by which heads were screened and verified.

    Attributes:
        method: method of estimation, `gradient` or `integrated`.
        points: integration points of `integrated`; None for `gradient`.
        key: the column that ranks heads.
        k: size of the top of each ranking that no randomly verified head may enter.
        verify: number of heads taken from the top of each ranking by estimate, in the first round.
        verify_random: number of other heads, drawn at random.
        verify_max: largest value that `verify` may be doubled to; None for all heads.
    """

    method: str
    points: int | None
    key: str
    k: int
    verify: int
    verify_random: int
    verify_max: int | None


class ScreenAbout(TypedDict):
    """A screen without its scores, as JSON: settings, rounds, and [layer, head, reason] of each verified head."""

    settings: JsonObject
    rounds: list[JsonObject]
    verified: list[list[int | str]]


@dataclass(frozen=True, eq=False)
class Screen:
    """Estimates of all heads' effects, and the heads that were verified.

    Raises:
        ValueError: a head has an estimate in some relations only.

    Attributes:
        settings: the settings of screening and verification.
        scores: {q_id: the estimated effect of each head, mean over trials, (n_layers, n_heads) float64}, in nats of the
            target's log probability; NaN, in all relations, for heads that were excluded from the sweep.
        verified: {head whose effects were measured: the reason}.
        rounds: every round of choosing heads; the last one chose `verified`.
    """

    settings: ScreenSettings
    scores: Mapping[str, np.ndarray]
    verified: Mapping[Head, Chosen]
    rounds: tuple[Round, ...]

    def __post_init__(self) -> None:
        estimated = np.isfinite([*self.scores.values()])  # (n_relations, n_layers, n_heads)
        if (estimated.any(0) != estimated.all(0)).any():
            raise ValueError("an estimate of a screened head is not finite")

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
        """Estimates of one relation's CIE, or of the AIE if `q_id` is None: (n_layers, n_heads)."""
        return mean_score(self.scores) if q_id is None else self.scores[q_id]

    def table(self, q_id: str | None) -> pd.DataFrame:
        """One row a screened head, by layer and head: layer, head, score, verified, chosen_by (empty if unverified)."""
        score, why = self.score_of(q_id), self.verified
        rows = [(*head, score[head], head in why, str(why.get(head, ""))) for head in self.candidates]
        return pd.DataFrame(rows, columns=["layer", "head", "score", "verified", "chosen_by"])

    def about(self) -> ScreenAbout:
        """Everything except the scores, as JSON."""
        return {
            "settings": asdict(self.settings),
            "rounds": [{**one._asdict(), "entered": [each._asdict() for each in one.entered]} for one in self.rounds],
            "verified": [[*head, why.value] for head, why in self.verified.items()],
        }

    @classmethod
    def of(cls, about: Mapping[str, Any], scores: Mapping[str, np.ndarray]) -> "Screen":
        """Rebuild a screen from what its method `about` returned, and its scores.

        Raises:
            KeyError: a key of `about` is missing.
            TypeError: a value in `about` has the wrong form.
            ValueError: the reason of a verified head is unknown, or a head has an estimate in some relations only.
        """
        rounds = [
            Round(**{**one, "entered": tuple(Entered(**each) for each in one["entered"])}) for one in about["rounds"]
        ]
        verified = {Head(layer, head): Chosen(why) for layer, head, why in about["verified"]}
        return cls(ScreenSettings(**about["settings"]), scores, verified, tuple(rounds))
