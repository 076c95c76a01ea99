"""StepD: finds the heads that carry each relation, by the effect of every head on corrupted prompts (CIE)."""

from omegaconf import DictConfig

from .app import entrypoint, run


@entrypoint("stepd")
def main(cfg: DictConfig) -> None:
    run(cfg, "fv.steps.stepd", "run_stepd", show="print_heads")


if __name__ == "__main__":
    main()
