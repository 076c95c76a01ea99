"""Wrapping a model in memory, with the same proof as for a loaded model."""

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
    """Use a model that is in memory, without changing it.

    Weights, number format, device, training mode, attention implementation, hooks and configurations all stay. While an
    engine runs the model, it is in the mode of a loaded one (eager attention, no dropout, no gradients); afterwards its
    own mode is restored. So both give the same numbers, to the bit if the weights were read in the same way, because
    their place in memory can change a last bit. The owner's hooks stay active in the engines' passes. Reading all
    weights for the fingerprint takes about two seconds per gigabyte.

    Example:
        >>> mine = fv.wrap(lm.model, lm.tokenizer, name="mine", selfcheck=False)
        >>> mine.n_layers, mine.n_heads
        (30, 9)

    Args:
        model: a Hugging Face `…ForCausalLM` of a known family (`fv.models.SPECS`) with its weights in memory.
        tokenizer: its Hugging Face tokenizer.
        name: a short name for tables and files; the end of the model's own name or path unless given.
        spec: the name of the model's family; found by its `config.model_type` unless given.
        spec_file: a YAML file that describes a family of your own (docs/models.md), instead of `spec`.
        selfcheck: whether to prove that edits act at the modules that the spec names; takes seconds.

    Raises:
        ModelError: the model is of another kind, of an unknown family, compiled, adapted, or without weights in memory;
            the tokenizer is not its own; or the self-check refuses it. Says which, and what would be right.
    """
    lm = wrap_unproved(model, tokenizer, name, spec, spec_file)
    return editable(lm, prove(lm) if selfcheck else SKIPPED)
