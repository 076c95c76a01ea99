"""Run folders: paths, identity, metadata, units; the files of every step, written and read back."""
