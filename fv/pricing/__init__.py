"""Prices: what a run will cost, counted from the model's shape and the trials before a weight is loaded."""

from fv.pricing.ready import facts_of, ready_shapes

__all__ = ["facts_of", "ready_shapes"]
