"""What a setting is called in a message: by its field where one made the settings, by its key where a run has them."""

import dataclasses
from enum import Enum
from typing import Any


class Group:
    """A group of settings. What reads one can name a setting as whoever gave it knows it."""

    group = ""
    """The group's key in a `Config`, such as `data` or `data.columns`; empty for settings made by hand."""

    def called(self, name: str) -> str:
        """What a message calls the setting `name`: `k` of a `ScoreConfig` made by hand, `score.k` of a run's."""
        return f"{self.group}.{name}" if self.group else name

    def become(self, group: str) -> None:
        """Let these settings, and the groups inside them, be those that a `Config` has under the key `group`."""
        self.group = group
        for own in dataclasses.fields(self):  # type: ignore[arg-type]  # every group is a dataclass
            if isinstance(inner := getattr(self, own.name), Group):
                inner.become(self.called(own.name))


def plain(settings: Any) -> dict[str, Any]:
    """A dataclass of settings, and those inside it, as plain JSON values."""
    return dataclasses.asdict(settings, dict_factory=_plain)


def _plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value.value if isinstance(value, Enum) else value for key, value in items}
