"""StepE: function vectors of the best heads."""

import hydra
from omegaconf import DictConfig

from entrypoints.app import run


@hydra.main(version_base="1.3", config_path="../conf", config_name="stepe")
def main(cfg: DictConfig) -> None:
    run(cfg, "fv.steps.stepe", "run_stepe")


if __name__ == "__main__":
    main()
