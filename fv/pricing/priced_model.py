"""Unloaded model for a price, from settings or from a ready shape, with its own tokenizer or a borrowed one."""

from typing import NamedTuple

from fv.config import ComputeConfig, ModelConfig, embedded_model
from fv.errors import ModelError
from fv.models.language_model import LanguageModel
from fv.models.shape import is_bare, load_bare_shape, load_shape, shape_of_facts
from fv.models.tokenizer import load_tokenizer
from fv.pricing.shape_facts import facts_of, ready_shapes


class PricedModel(NamedTuple):
    """Model of which only the shape is used, so it may be on the meta device; with notes on its origin."""

    lm: LanguageModel
    notes: list[str]


def priced_model(model: ModelConfig, compute: ComputeConfig) -> PricedModel:
    """Model that settings name; if its files are missing, the ready shape of this name.

    Raises:
        ModelError: the shape is not known on this machine, or the family is unknown.
    """
    if is_bare(model):
        borrowed = load_tokenizer(embedded_model())
        return PricedModel(load_bare_shape(model, compute, borrowed), [_borrowed(model.name, borrowed.name)])
    try:
        return PricedModel(load_shape(model, compute), [])
    except ModelError:
        if model.path is not None or model.name not in ready_shapes():
            raise
        found = priced_model_of(model.name, compute)
        return PricedModel(
            found.lm, [f"The files of {model.name} are not here: its ready shape is used.", *found.notes]
        )


def priced_model_of(name: str, compute: ComputeConfig, called: str = "name") -> PricedModel:
    """Model of a ready shape. Error messages call its `name` `called`.

    Raises:
        ConfigError: there is no ready shape of this name.
    """
    facts = facts_of(name, called)
    borrowed = load_tokenizer(embedded_model())
    return PricedModel(shape_of_facts(name, facts, compute, borrowed), [_borrowed(name, borrowed.name)])


def _borrowed(name: str, other: str) -> str:
    return f"Tokens are counted with the tokenizer of {other}, since {name}'s is not here."
