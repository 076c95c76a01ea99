"""What stands in for a model, and for what is measured of it, where only counts matter: numbers one wide."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fv.data.origin import Origin
from fv.data.snapshot import Snapshot
from fv.heads.activations import PromptOutputs, RelationMeans
from fv.heads.effects import KEYS, Effects
from fv.heads.indirect_effect import TrialEffects
from fv.heads.ranking import Ranking, VectorHeads
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.seeding import generator_for

WIDTH = 1
"""Of heads and of the residual stream: no count depends on it."""


class StandIn(LanguageModel):
    """A model of as many layers and heads as the real one, without its weights, whose numbers are `WIDTH` wide.

    What conditions are made of it has the right count and place. `model` may be on the meta device.
    """

    @classmethod
    def of(cls, lm: LanguageModel) -> "StandIn":
        """The stand-in of a model."""
        return cls(lm.model, lm.tokenizer, lm.spec, lm.name, lm.fingerprint)

    @property
    def head_dim(self) -> int:
        return WIDTH

    @property
    def d_model(self) -> int:
        return WIDTH

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @cached_property
    def _encoded(self) -> dict[tuple[str, bool], list[int]]:
        """Texts that were encoded: several stages ask for the same prompts."""
        return {}

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        key = text, add_special_tokens
        if key not in self._encoded:
            self._encoded[key] = super().encode(text, add_special_tokens)
        return self._encoded[key]

    def known(self, ids: list[int]) -> list[int]:
        """The same token ids: its tokenizer may be another model's, with more tokens than it embeds."""
        return ids

    def added_by(self, layer: int, head_outputs: Tensor, at: Tensor | None = None) -> Tensor:
        """As of a model: (..., n_heads, WIDTH), float64."""
        del layer, at
        return head_outputs.double()


@dataclass(frozen=True, eq=False)
class StandInEffects(Effects):
    """Effects that nobody measured: heads rank at random, and so are spread over the layers.

    Attributes:
        heads: the heads that are swept.
    """

    heads: Sequence[Head] = ()

    @classmethod
    def of_heads(cls, lm: StandIn, snapshot: Snapshot, heads: Sequence[Head]) -> "StandInEffects":
        """Of the relations of a snapshot."""
        shape, stream = (lm.n_layers, lm.n_heads, WIDTH), torch.ones(lm.n_layers, WIDTH)
        ones, outputs = torch.ones(shape), PromptOutputs(torch.ones(2, *shape), torch.ones(2, *shape))
        means = RelationMeans(ones, ones, stream, stream[:, 0], ones, torch.zeros_like(stream), outputs)
        drawn = generator_for(0, "stand_in_effects").standard_normal((2, 2, lm.n_layers, lm.n_heads))
        effects = dict.fromkeys(snapshot.qids, TrialEffects(*drawn))
        every = dict.fromkeys(snapshot.qids, means)
        return cls(effects, every, Origin.of(lm, snapshot), pd.DataFrame(), heads=heads)

    @cached_property
    def _scores(self) -> pd.DataFrame:
        layers, heads = np.array(self.heads).T
        drawn = generator_for(0, "stand_in").standard_normal((len(KEYS), len(layers)))
        return pd.DataFrame({"layer": layers, "head": heads, **dict(zip(KEYS, drawn, strict=True))})

    @cached_property
    def _known(self) -> dict[int, VectorHeads]:
        """Heads by their number: all rankings are one, and sorting it takes time."""
        return {}

    def heads_of(self, q_id: str | None, ranking: Ranking, k: int, aie: bool = False, name: str = "k") -> VectorHeads:
        if k not in self._known:
            self._known[k] = super().heads_of(q_id, ranking, k, aie, name)
        return self._known[k]

    def scores_of(self, q_id: str | None) -> pd.DataFrame:
        del q_id
        return self._scores

    def aie_scores(self, without: str | None = None) -> pd.DataFrame:
        del without
        return self._scores


def stand_in_values(number: int) -> Tensor:
    """Values of the so-manieth vector, (WIDTH,): different ones, since a vector's place in a pass depends on them."""
    return torch.tensor([1.0 + number])
