"""Gathers the finished cells of a sweep into one summary, if the sweep itself could not."""

from omegaconf import DictConfig

from .app import entrypoint, run


@entrypoint("gather")
def main(cfg: DictConfig) -> None:
    run(cfg, "fv.steps.gather", "run_gather", show="print_gathered")


if __name__ == "__main__":
    main()
