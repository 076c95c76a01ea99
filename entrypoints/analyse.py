"""Analyses of a finished run: `python -m entrypoints.analyse 'analysis=[transfer,cost]' run_id=…`; `… analyse list`."""

import sys

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from .app import entrypoint, run


@entrypoint("analyse")
def analyse(cfg: DictConfig) -> None:
    # An override is `key=value`, `group=choice` or `group/inner=choice`.
    given = [one.lstrip("+~").partition("=")[0].replace("/", ".") for one in HydraConfig.get().overrides.task]
    run(cfg, "fv.steps.analyse", "run_analyse", given=given)


def main() -> None:
    if sys.argv[1:] == ["list"]:
        from fv.steps.listing import list_analyses

        list_analyses()
    else:
        analyse()


if __name__ == "__main__":
    main()
