"""Prints the tables of a finished run, run_id=<run_id>, and writes a page of it, one HTML file with its figures.

With a tag, of that set of outputs; report=none leaves the page out. 'runs=[a,b]' shows runs of other models or seeds
side by side, in a page that goes to out=<folder>.
"""

from omegaconf import DictConfig

from .app import entrypoint, run


@entrypoint("report")
def main(cfg: DictConfig) -> None:
    if cfg.runs:
        run(cfg, "fv.report.comparison", "print_comparison", with_model=False, page="comparison_page.comparison_page")
    else:
        run(cfg, "fv.report.terminal", "report", with_model=False, page="page.report_page")


if __name__ == "__main__":
    main()
