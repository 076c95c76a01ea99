"""Settings that went by other keys: what a run recorded under them, under today's."""

from collections.abc import Mapping
from typing import Any

CONDITIONS = "evaluation.conditions."
SWITCHES = {
    "evaluation.baselines": ("few_shot_corrupted", "layer_mean"),
    "evaluation.necessity": ("ablated_heads",),
    "evaluation.controls.bottom_heads": ("bottom_heads",),
    "evaluation.controls.corrupted": ("corrupted_prompts",),
    "evaluation.controls.other_relation": ("other_relation",),
    "evaluation.controls.mean_of_others": ("mean_of_others",),
}
"""Keys that switched conditions on and off, and the conditions."""
DRAWS = {
    "evaluation.controls.random_vectors": "random_vector",
    "evaluation.controls.random_heads": "random_heads",
}
"""Keys of how many draws a condition has, 0 for none, and the condition."""

RENAMED = {f"{CONDITIONS}random_vectors.": f"{CONDITIONS}random_vector."}
"""Beginnings of keys of conditions that went by another name."""

TEXTS = {
    "evaluation.n_unrelated": "analysis.cost.n_texts",
    "evaluation.unrelated_path": "analysis.cost.texts_path",
}
"""Keys of the evaluation that are an analysis' now."""
ANALYSES = ("cost", "ranking_stability", "transfer")
"""What every run had of its steps before it was analyses that are named."""


def under_todays_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a record has them, flat, {dotted key: value}, under the keys of today."""
    kept = {key: value for key, value in settings.items() if key not in {*SWITCHES, *DRAWS}}
    found = {_renamed(TEXTS.get(key, key)): value for key, value in kept.items()}
    for key in SWITCHES.keys() & settings.keys():
        found |= {f"{CONDITIONS}{name}.enabled": settings[key] for name in SWITCHES[key]}
    for key in DRAWS.keys() & settings.keys():
        found[f"{CONDITIONS}{DRAWS[key]}.enabled"] = settings[key] > 0
        if settings[key]:
            found[f"{CONDITIONS}{DRAWS[key]}.draws"] = settings[key]
    if "evaluation.controls.random_heads" in settings:
        found[f"{CONDITIONS}ablated_heads.draws"] = settings["evaluation.controls.random_heads"]
    return found


def _renamed(key: str) -> str:
    return next((key.replace(old, new) for old, new in RENAMED.items() if key.startswith(old)), key)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flat settings as groups inside groups."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        *groups, name = key.split(".")
        inner = found
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[name] = value
    return found
