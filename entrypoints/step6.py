"""Step6: what injecting a function vector does to zero-shot prompts."""

import hydra
from omegaconf import DictConfig

from entrypoints.app import run


@hydra.main(version_base="1.3", config_path="../conf", config_name="step6")
def main(cfg: DictConfig) -> None:
    run(cfg, "fv.steps.step6", "run_step6")


if __name__ == "__main__":
    main()
