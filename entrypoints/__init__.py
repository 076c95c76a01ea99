"""The commands: each turns settings into a checked `fv.config.Config` and calls a step. Hydra is here only."""
