"""Relation data, without a model's weights: `python -m entrypoints.data list | check | sample [key=value …]`."""

import sys

import hydra

from fv.config.presets import CONF

from .app import run

ACTIONS = ("list", "check", "sample")


def main() -> None:
    action = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if action not in ACTIONS:
        sys.exit(f"Say what to do: python -m entrypoints.data {' | '.join(ACTIONS)} [data.path=…] [key=value …]")
    entry = hydra.main(version_base="1.3", config_path=str(CONF), config_name="data")
    entry(lambda cfg: run(cfg, "fv.steps.data", f"run_{action}", with_model=False))()


if __name__ == "__main__":
    main()
