"""The steps: each reads its inputs, calls the pure modules, and writes its artifacts. None imports Hydra."""
