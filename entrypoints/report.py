"""Prints the tables of a finished run, run_id=<run_id>; with a tag, of that set of outputs."""

from omegaconf import DictConfig

from .app import entrypoint, run


@entrypoint("report")
def main(cfg: DictConfig) -> None:
    run(cfg, "fv.report.terminal", "report", with_model=False)


if __name__ == "__main__":
    main()
