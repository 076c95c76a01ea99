"""Which heads carry a relation: means of activations, indirect effects, rankings, their stability."""
