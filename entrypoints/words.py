"""Refusal of a command's words that name no setting and no choice, with similar names, before Hydra sees them."""

import functools
from collections.abc import Iterable, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException

from fv.analyses import known_analyses
from fv.cluster import known_clusters
from fv.config.explanations import settings_of
from fv.config.presets import CONF
from fv.registry import refuse_unknown

from .command_line import plugged_in
from .plug_ins import DEFAULT, NONE

OWN_FILES = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
"""Switches of Hydra with which settings come from the user's own files, so that choices may have any name."""
FREE = ("model.device_map.", "model.max_memory.", "injection.makers.")
"""Beginnings of keys whose last part may be any name."""


def refuse_unknown_words(words: Sequence[str]) -> None:
    """Refuse unknown settings, groups and choices.

    Raises:
        ConfigError: one is unknown; the message lists similar names, or all.
    """
    own_files = any(word.startswith(OWN_FILES) or word.startswith("hydra.searchpath") for word in words)
    parser = OverridesParser.create()
    for word in words:
        try:
            (override,) = parser.parse_overrides([word])
        except (HydraException, ValueError):
            continue  # a switch, or a word that Hydra itself refuses
        key = override.key_or_group.replace("/", ".")
        if key.startswith("hydra.") or key == "hydra":
            continue
        if key == "analysis":
            for name in _chosen(override):
                refuse_unknown(name, [*known_analyses(), DEFAULT], "analysis")
        elif (choices := _choices_of(override.key_or_group)) and not own_files:
            for name in _chosen(override):
                refuse_unknown(name, choices, f"choice of {override.key_or_group}")
        elif not key.startswith(FREE) and not (own_files and "/" in override.key_or_group):
            names = _settings()
            refuse_unknown(key, names, "setting", dict.fromkeys(name.partition(".")[0] for name in names))


@functools.cache
def _settings() -> list[str]:
    """The keys of all settings and groups."""
    keys = [setting.key for setting in settings_of(plugged_in=plugged_in())]
    keys += [own.key for cluster in known_clusters().values() for own in settings_of(cluster, "cluster.")]
    groups = (".".join(key.split(".")[:end]) for key in keys for end in range(1, key.count(".") + 1))
    return [*dict.fromkeys([*keys, *groups])]


def _choices_of(group: str) -> list[str]:
    """The names of a group's ready files; empty if it is not a group."""
    if group == "cluster":
        return [NONE, *known_clusters()]
    folder = CONF / group
    return sorted(path.stem for path in folder.glob("*.yaml")) if folder.is_dir() else []


def _chosen(override: Override) -> Iterable[str]:
    """The names that an override chooses; empty if it gives settings, or deletes the group."""
    if override.is_delete():
        return []
    if override.is_sweep_override():
        if not isinstance(override.value(), ChoiceSweep):
            return []
        return [text.strip("'\"") for text in override.sweep_string_iterator() if not text.startswith(("[", "{"))]
    value = override.value()
    several = value if isinstance(value, list) else [value]
    return [str(each) for each in several if each is not None and not isinstance(each, dict)]
