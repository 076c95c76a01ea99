"""Prints the tables of a finished run, run_id=<run_id>, and writes a page of it, one HTML file with its figures.

With a tag, of that set of outputs; report=none leaves the page out.
"""

from omegaconf import DictConfig

from .app import entrypoint, run


@entrypoint("report")
def main(cfg: DictConfig) -> None:
    run(cfg, "fv.report.terminal", "report", with_model=False, page=True)


if __name__ == "__main__":
    main()
