"""Stand-ins for a model and its measured effects, used for counting; their values have width 1."""

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
"""Width of heads and of the residual stream; no count depends on it."""


class StandIn(LanguageModel):
    """Stand-in for a model, with the same numbers of layers and heads, no weights, and values of width `WIDTH`.

    Conditions built with it have the right number and positions. `model` may be on the meta device.
    """

    @classmethod
    def of(cls, lm: LanguageModel) -> "StandIn":
        """Build the stand-in of a model."""
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
        """Token ids of encoded texts, kept because several stages need the same prompts."""
        return {}

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        key = text, add_special_tokens
        if key not in self._encoded:
            self._encoded[key] = super().encode(text, add_special_tokens)
        return self._encoded[key]

    def known(self, ids: list[int]) -> list[int]:
        """Return the token ids unchecked: a borrowed tokenizer may have more tokens than the model embeds."""
        return ids

    def added_by(self, layer: int, head_outputs: Tensor, at: Tensor | None = None) -> Tensor:
        """Return values of the shape of a model's, (..., n_heads, WIDTH), float64."""
        del layer, at
        return head_outputs.double()


@dataclass(frozen=True, eq=False)
class StandInEffects(Effects):
    """Stand-in for effects: heads are ranked at random, so the best are spread over the layers.

    Attributes:
        heads: the heads that are swept.
    """

    heads: Sequence[Head] = ()

    @classmethod
    def of_heads(cls, lm: StandIn, snapshot: Snapshot, heads: Sequence[Head]) -> "StandInEffects":
        """Build stand-in effects for the relations of a snapshot."""
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
        """{k: the best k heads}, kept because all rankings are the same and sorting takes time."""
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
    """Distinct dummy values for the n-th vector, (WIDTH,); equal vectors would share a place in a pass."""
    return torch.tensor([1.0 + number])
