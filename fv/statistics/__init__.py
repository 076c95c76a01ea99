"""Statistics: means with intervals, and tests of many means at once."""

from fv.statistics.grouped import grouped_means
from fv.statistics.intervals import Estimates, Kind, estimate_means

__all__ = [
    "Estimates",
    "Kind",
    "estimate_means",
    "grouped_means",
]
