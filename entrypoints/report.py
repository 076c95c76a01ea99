"""Prints the tables of a finished run, run_id=<run_id>, and writes its page, one HTML file with figures.

tag=<tag> shows the outputs of that tag; report=none leaves the page out. 'runs=[a,b]' compares runs of different
models or seeds, on a page in out=<folder>.
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
