"""Addition of a vector to the output of attention."""

from dataclasses import dataclass
from typing import ClassVar

from fv.interventions.edits.added import Added
from fv.interventions.place import Part


@dataclass(frozen=True, eq=False, repr=False)
class AddToAttention(Added):
    """Add a vector to the attention output of block `layer`: to that of its projection, before a norm after it.

    Example:
        >>> with lm.edited(fv.AddToAttention(11, 3 * torch.ones(lm.d_model))):
        ...     text = lm.generate("Q: hot\\nA:", max_new_tokens=1)

    Attributes:
        layer: the block, from 0.
        vector: (d_model,), a floating-point tensor (not a list or an array); cast to the model's number format.
        prompt_ending: the ending of prompts in the vector's template, such as "\\nA:"; `generate` warns of others.
        made_by: the model that the vector comes from, if it is known; `edited` warns if it is another model.
    """

    part: ClassVar[Part] = Part.attention
