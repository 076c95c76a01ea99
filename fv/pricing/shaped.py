"""The shape of a model by its settings, by a ready shape, or of one in memory: with its tokenizer or a borrowed one."""

from typing import NamedTuple

from fv.config import ComputeConfig, ModelConfig, embedded_model
from fv.errors import ModelError
from fv.models.language_model import LanguageModel
from fv.models.shape import is_bare, load_bare_shape, load_shape, shape_of_facts
from fv.models.tokenizer import load_tokenizer
from fv.pricing.ready import facts_of, ready_shapes


class Shaped(NamedTuple):
    """A model whose numbers nobody needs, which may be on the meta device, and what is to be said of it."""

    lm: LanguageModel
    notes: list[str]


def shaped(model: ModelConfig, compute: ComputeConfig) -> Shaped:
    """The shape of the model that settings name; without its files, the ready shape of its name, if there is one.

    Raises:
        ModelError: nothing is known of its shape here, or it is of an unknown family.
    """
    if is_bare(model):
        borrowed = load_tokenizer(embedded_model())
        return Shaped(load_bare_shape(model, compute, borrowed), [_borrowed(model.name, borrowed.name)])
    try:
        return Shaped(load_shape(model, compute), [])
    except ModelError:
        if model.path is not None or model.name not in ready_shapes():
            raise
        found = shaped_as(model.name, compute)
        return Shaped(found.lm, [f"The files of {model.name} are not here: its ready shape is taken.", *found.notes])


def shaped_as(name: str, compute: ComputeConfig, called: str = "name") -> Shaped:
    """A ready shape by its name; `called` is what a message calls that.

    Raises:
        ConfigError: there is none of this name.
    """
    facts = facts_of(name, called)
    borrowed = load_tokenizer(embedded_model())
    return Shaped(shape_of_facts(name, facts, compute, borrowed), [_borrowed(name, borrowed.name)])


def _borrowed(name: str, other: str) -> str:
    return f"Tokens are counted with the tokenizer of {other}: that of {name} is not here."
