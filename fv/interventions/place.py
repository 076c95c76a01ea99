"""Places of edits: a layer, and the part of its block that is edited."""

from enum import StrEnum
from typing import NamedTuple

from fv.models.language_model import LanguageModel


class Part(StrEnum):
    """Part of a block, by what can be edited there.

    `heads`: the outputs of its heads, before the projection. `attention`: the output of that projection. `mlp`: the
    output of its MLP. `residual`: the residual stream after the block. In a family with norms after attention and MLP,
    `attention` and `mlp` are the outputs before these norms.

    Example:
        >>> fv.Part.mlp in {place.part for place in fv.Mix(3, "mlp", 0.5).places}
        True
    """

    heads = "heads"
    attention = "attention"
    mlp = "mlp"
    residual = "residual"


class Place(NamedTuple):
    """One place of an edit.

    Example:
        >>> fv.Place(3, fv.Part.heads).first_block, fv.Place(3, fv.Part.residual).first_block
        (3, 4)
    """

    layer: int
    part: Part

    @property
    def first_block(self) -> int:
        """The first block whose result changes if this place is edited."""
        return self.layer + (self.part == Part.residual)

    def path(self, lm: LanguageModel) -> str:
        """The path of its module, for messages."""
        inside = {Part.residual: "", Part.mlp: lm.spec.mlp}.get(self.part, lm.spec.out_proj)
        return f"{lm.spec.blocks}.{self.layer}" + (f".{inside}" if inside else "")

    def __str__(self) -> str:
        return {
            Part.heads: f"the heads of block {self.layer}",
            Part.attention: f"the attention output of block {self.layer}",
            Part.mlp: f"the MLP output of block {self.layer}",
            Part.residual: f"the residual stream after block {self.layer}",
        }[self.part]
