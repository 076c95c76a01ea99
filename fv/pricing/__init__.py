"""Prices of runs, counted from the model's shape and the trials before any weights are loaded."""

from fv.pricing.shape_facts import facts_of, ready_shapes

__all__ = ["facts_of", "ready_shapes"]
