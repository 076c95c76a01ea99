"""Gather the finished cells of a sweep into one summary, when the sweep itself could not."""

import hydra
from omegaconf import DictConfig

from entrypoints.app import run


@hydra.main(version_base="1.3", config_path="../conf", config_name="gather")
def main(cfg: DictConfig) -> None:
    run(cfg, "fv.steps.gather", "run_gather")


if __name__ == "__main__":
    main()
