"""Run folders: paths, identity, records, units, and the files of every step, written and read."""
