"""StepD: which heads carry each relation. `python -m entrypoints.stepd --help` lists the settings."""

import hydra
from omegaconf import DictConfig

from entrypoints.app import run


@hydra.main(version_base="1.3", config_path="../conf", config_name="stepd")
def main(cfg: DictConfig) -> None:
    run(cfg, "fv.steps.stepd", "run_stepd")


if __name__ == "__main__":
    main()
