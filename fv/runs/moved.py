"""Settings that went by other keys: what a run recorded under them, under today's."""

from collections.abc import Mapping, Sequence
from typing import Any

from fv.config import ScopeMode
from fv.evaluation import conditions

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

RENAMED = {f"{CONDITIONS}{old}.": f"{CONDITIONS}{new}." for old, new in conditions.RENAMED.items()}
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


def scope_of_kinds(mode: str, kinds: Sequence[str], source_qid: str | None, on_all: Sequence[str] = ("global",)) -> str:
    """The scope that an `eval_scope.mode` comes to; where `auto` is another for each kind of vector, all of them.

    Args:
        mode: the mode.
        kinds: of the vectors, `injection.fv` as a list.
        source_qid: the relation of a vector from a file, if any.
        on_all: kinds that `auto` evaluates on all relations, beside a file's of none.
    """
    if mode != ScopeMode.auto:
        return mode
    on = {
        kind: ScopeMode.all_qids if kind in on_all or (kind == "file" and source_qid is None) else ScopeMode.in_domain
        for kind in kinds
    }
    scopes = {scope.value for scope in on.values()}
    return scopes.pop() if len(scopes) == 1 else ", ".join(f"{kind} on {scope.value}" for kind, scope in on.items())


def scope_before(settings: Mapping[str, Any]) -> dict[str, str]:
    """What the scope of flat settings came to when `auto` made a transfer matrix of all relations' own vectors; nothing
    where they say what it comes to, or have none."""
    if "eval_scope" in settings or "eval_scope.mode" not in settings or "injection.fv" not in settings:
        return {}
    fv, source_qid = settings["injection.fv"], settings.get("injection.fv_source_qid")
    kinds = fv if isinstance(fv, list) else [fv]
    return {"eval_scope": scope_of_kinds(settings["eval_scope.mode"], kinds, source_qid, ("global", "all_qids"))}


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
