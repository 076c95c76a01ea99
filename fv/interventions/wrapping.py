"""A model that one has in memory, proved as a loaded one is."""

from typing import Any

from fv.interventions.editable import EditableModel, editable
from fv.interventions.selfcheck import SKIPPED
from fv.interventions.selfcheck import selfcheck as prove
from fv.models.wrapping import wrap_unproved


def wrap(
    model: Any,
    tokenizer: Any,
    *,
    name: str | None = None,
    spec: str | None = None,
    spec_file: str | None = None,
    selfcheck: bool = True,
) -> EditableModel:
    """Use a model that is in memory, as its owner has it.

    Nothing in it is changed: weights, number format, device, training mode, attention implementation, hooks and
    configurations stay. While an engine runs it, it is in the state of a loaded one (eager attention, no dropout, no
    gradients), and in its own again afterwards, so that both give the same numbers: to the bit if the weights were read
    in the same way, for where they lie in memory can move a last bit. Hooks of its owner stay in force in the engines'
    passes, too. Reading all weights for the fingerprint takes about two seconds a gigabyte.

    Example:
        >>> mine = fv.wrap(lm.model, lm.tokenizer, name="mine", selfcheck=False)
        >>> mine.n_layers, mine.n_heads
        (30, 9)

    Args:
        model: a Hugging Face `…ForCausalLM` of a known family (`fv.models.SPECS`) with its weights in memory.
        tokenizer: its Hugging Face tokenizer.
        name: a short name for tables and files; the end of the model's own name or path unless given.
        spec: the name of the family to take it for; found by its `config.model_type` unless given.
        spec_file: a YAML file that describes a family of one's own (docs/models.md), instead of `spec`.
        selfcheck: whether it is proved that edits act where the spec has them; takes seconds.

    Raises:
        ModelError: it is no such model, of no known family, compiled, adapted or without weights at hand, the tokenizer
            is not its own, or the self-check refuses it; says which, and what would be right.
    """
    lm = wrap_unproved(model, tokenizer, name, spec, spec_file)
    return editable(lm, prove(lm) if selfcheck else SKIPPED)
