"""StepE: makes function vectors from the best heads."""

from omegaconf import DictConfig

from .app import entrypoint, run


@entrypoint("stepe")
def main(cfg: DictConfig) -> None:
    run(cfg, "fv.steps.stepe", "run_stepe", show="print_vectors")


if __name__ == "__main__":
    main()
