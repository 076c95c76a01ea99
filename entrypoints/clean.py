"""Deletes the units of the run run_id=<run_id> to free disk space; they can be computed again."""

from omegaconf import DictConfig

from .app import entrypoint, run


@entrypoint("clean")
def main(cfg: DictConfig) -> None:
    run(cfg, "fv.steps.clean", "run_clean", with_model=False)


if __name__ == "__main__":
    main()
