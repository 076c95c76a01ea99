"""Function vectors of language models: find the heads, build the vector, inject it, measure it."""

__version__ = "0.1.0"
