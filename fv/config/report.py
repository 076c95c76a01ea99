"""Settings of the group `report`: the page and figures of a finished run. They are not part of a run's identity."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from fv.config.group import Group
from fv.errors import ConfigError, one_of

FORMATS = ("svg", "pdf", "png")


class PageForm(StrEnum):
    """Form of a run's page."""

    html = "html"
    none = "none"


@dataclass
class ReportConfig(Group):
    """Page and figures of a finished run."""

    page: PageForm = PageForm.html
    """Page of the run that `pipeline` and `report` write: `html`, one file (needs the extra `report`); or `none`."""
    formats: list[str] = field(default_factory=lambda: ["svg"])
    """Formats of the page's figures as files: svg, pdf, png; [] for no files."""

    def validate(self) -> None:
        super().validate()
        check_formats(self.called("formats"), self.formats)
        if len({*self.formats}) < len(self.formats):
            raise ConfigError(f"{self.called('formats')}={list(self.formats)} names one twice.")


def check_formats(key: str, formats: Sequence[str]) -> None:
    """Refuse an unknown format of figures."""
    for form in formats:
        one_of(key, form, FORMATS)
