"""Heads that carry a relation: means of activations, indirect effects, rankings of heads and their stability."""

from fv.heads.activations import RelationMeans
from fv.heads.indirect_effect import TrialEffects, aie_stats, aie_table, cie_stats, cie_table, trial_effects
from fv.heads.measurement import Measured, Measurement
from fv.heads.ranking import heads_to_sweep, rank_heads, top_heads
from fv.heads.screen import Screen
from fv.heads.stability import stability_report

__all__ = [
    "Measured",
    "Measurement",
    "RelationMeans",
    "Screen",
    "TrialEffects",
    "aie_stats",
    "aie_table",
    "cie_stats",
    "cie_table",
    "heads_to_sweep",
    "rank_heads",
    "stability_report",
    "top_heads",
    "trial_effects",
]
