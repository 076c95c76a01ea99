"""Words and roles of conditions in tables, sentences and figures; each provider has those of its conditions."""

from collections.abc import Callable, Mapping

from fv.evaluation.conditions import condition_providers
from fv.evaluation.provider import Words

UNEDITED_WORDS = {
    "few_shot": Words("few-shot", "The few-shot prompt", column="few-shot prompt", column_at=10, leads_at=90),
    "few_shot_corrupted": Words("few-shot corrupted", column="corrupted prompt", column_at=20),
}
"""{unedited condition: its words}; they belong to no provider's vector."""


def known_words() -> Mapping[str, Words]:
    """{condition: its words}, of all providers in their order, and of the unedited conditions."""
    of_providers = {name: own for provider in condition_providers().values() for name, own in provider.words.items()}
    return {**of_providers, **UNEDITED_WORDS}


def lead_contrasts() -> list[str]:
    """Conditions that the results table and the forest plot compare a vector with, in their order."""
    return _in_order(lambda words: words.leads_at)


def compared_conditions() -> dict[str, str]:
    """{condition that the closing table of baselines compares with the vector: its column's heading}, in order."""
    return {name: known_words()[name].column for name in _in_order(lambda words: words.column_at)}


def costed_conditions() -> list[str]:
    """Conditions that the figure of effect against cost shows beside the vector."""
    return [name for name, words in known_words().items() if words.in_cost_figure]


def belongs_to_vector(condition: str) -> bool:
    """Tell whether a condition belongs to a vector, and not to a relation only."""
    return condition not in UNEDITED_WORDS and (condition not in known_words() or known_words()[condition].of_vector)


def labels() -> dict[str, str]:
    """{condition: its name in figures}."""
    return {name: words.label for name, words in known_words().items()}


def _in_order(place_of: Callable[[Words], int | None]) -> list[str]:
    placed = {name: place for name, words in known_words().items() if (place := place_of(words)) is not None}
    return sorted(placed, key=lambda name: placed[name])  # ties stay in the order of providers
