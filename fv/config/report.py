"""Settings of the group `report`: what a finished run is shown as. No part of what a run is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from fv.config.group import Group
from fv.errors import ConfigError, one_of

FORMATS = ("svg", "pdf", "png")


class PageForm(StrEnum):
    """What the page of a run is."""

    html = "html"
    none = "none"


@dataclass
class ReportConfig(Group):
    """What a finished run is shown as, beside its tables."""

    page: PageForm = PageForm.html
    """Whether `pipeline` and `report` write a page of the run, one HTML file; needs the extra `report`."""
    formats: list[str] = field(default_factory=lambda: ["svg"])
    """Files of the page's figures: of svg, pdf, png; [] for none beside the page."""

    def validate(self) -> None:
        super().validate()
        check_formats(self.called("formats"), self.formats)
        if len({*self.formats}) < len(self.formats):
            raise ConfigError(f"{self.called('formats')}={list(self.formats)} names one twice.")


def check_formats(key: str, formats: Sequence[str]) -> None:
    """Refuse an unknown format of figures."""
    for form in formats:
        one_of(key, form, FORMATS)
