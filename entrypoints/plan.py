"""Prints the price of a run with these settings, stage by stage, without weights: arithmetic, memory, disk, time."""

from omegaconf import DictConfig

from .app import entrypoint, run


@entrypoint("plan")
def main(cfg: DictConfig) -> None:
    run(cfg, "fv.steps.plan", "run_plan", with_model=False)


if __name__ == "__main__":
    main()
