"""Relations and trials: rows, importers, checks, templates, sampling, corruption, snapshots, prompts."""
