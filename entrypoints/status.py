"""Prints the progress of the run run_id=<run_id> from its folder alone, during the run or after a crash."""

from omegaconf import DictConfig

from .app import entrypoint, run


@entrypoint("status")
def main(cfg: DictConfig) -> None:
    run(cfg, "fv.steps.status", "print_status", with_model=False)


if __name__ == "__main__":
    main()
