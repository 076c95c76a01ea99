"""Addition to the outputs of heads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from fv.errors import ConfigError
from fv.interventions.edits.head_values import HeadValues, named_in
from fv.interventions.place import Place
from fv.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False, repr=False)
class AddHeads(HeadValues):
    """Add to the outputs of one or several heads, before their projection; heads may be in several layers.

    Example:
        >>> with lm.edited(fv.AddHeads(((11, 0), (14, 2)), 0.5)):
        ...     text = lm.generate("Q: hot\\nA:", max_new_tokens=1)

    Attributes:
        heads: (layer, head) of each, each once.
        values: the numbers to add: one number, for all heads; or a floating-point tensor, (n, head_dim) for the n named
            heads in order, or (n_layers, n_heads, head_dim), from which only the values of `heads` are read.
    """

    def change(self, place: Place, hidden: Tensor) -> Tensor:
        named, changed = named_in([self], place.layer, hidden), hidden.clone()
        changed[..., named.heads, :] += named.values
        return changed

    @classmethod
    def change_rows(cls, edits: Sequence[Self], place: Place, hidden: Tensor) -> Tensor:
        named = named_in(edits, place.layer, hidden)
        hidden[:, named.rows, named.heads] += named.values
        return hidden

    def check(self, lm: LanguageModel) -> None:
        super().check(lm)
        if len({*self.heads}) < len(self.heads):
            raise ConfigError("AddHeads.heads names a head twice, to which values are added once: name each once.")
        if not any(self.value(number, lm.head_dim).to(lm.dtype).any() for number in range(len(self.heads))):
            raise ConfigError("AddHeads.values are zero in the model's number format, which would change nothing.")

    @property
    def words(self) -> str:
        return f"with values added to {len(self.heads)} heads"

    def scaled(self, alpha: float) -> Self:
        return replace(self, values=alpha * self.values)
