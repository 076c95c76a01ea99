"""Commands: each turns settings into a checked `fv.config.Config` and calls a step. Only this room imports Hydra."""
