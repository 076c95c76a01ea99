"""Prices: what a run will cost, counted from the model's shape and the trials before a weight is loaded."""
