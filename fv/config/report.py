"""Settings of the group `report`: what a finished run is shown as. No part of what a run is."""

from dataclasses import dataclass, field
from enum import StrEnum

from fv.config.group import Group
from fv.errors import ConfigError

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

    def __post_init__(self) -> None:
        unknown = [form for form in self.formats if form not in FORMATS]
        if unknown or len({*self.formats}) < len(self.formats):
            problem = f"{unknown[0]!r} is none of {', '.join(FORMATS)}" if unknown else "names one twice"
            raise ConfigError(f"report.formats={list(self.formats)}: {problem}.")
