"""Run folders: paths, identity, metadata, units, results read back."""
