"""Runs StepD, StepE and Step6 with the model loaded once, prints a table of results, and writes a page of the run."""

from pathlib import Path

from omegaconf import DictConfig

from .app import entrypoint, run


@entrypoint("pipeline")
def main(cfg: DictConfig) -> Path | None:
    return run(cfg, "fv.steps.pipeline", "run_pipeline", show="print_report", page="page.report_page")


if __name__ == "__main__":
    main()
