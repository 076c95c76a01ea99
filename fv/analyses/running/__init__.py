"""Base of all analyses, their inputs, and the runner."""
