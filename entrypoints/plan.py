"""What a run of these settings would cost, stage by stage, told without its weights: arithmetic, memory, disk, time."""

from omegaconf import DictConfig

from .app import entrypoint, run


@entrypoint("plan")
def main(cfg: DictConfig) -> None:
    run(cfg, "fv.steps.plan", "run_plan", with_model=False)


if __name__ == "__main__":
    main()
