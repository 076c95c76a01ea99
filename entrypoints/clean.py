"""Throws away the units of the run run_id=<run_id>: they take room, and can be made again."""

from omegaconf import DictConfig

from .app import entrypoint, run


@entrypoint("clean")
def main(cfg: DictConfig) -> None:
    run(cfg, "fv.steps.clean", "run_clean", with_model=False)


if __name__ == "__main__":
    main()
