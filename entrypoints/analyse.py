"""Analyses of a finished run: 'analysis=[transfer,cost]' run_id=<run_id>. The word `list` alone lists all analyses."""

import sys

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from .app import entrypoint, run
from .output import take_any_text


@entrypoint("analyse")
def analyse(cfg: DictConfig) -> None:
    # An override is `key=value`, `group=choice` or `group/inner=choice`.
    given = [one.lstrip("+~").partition("=")[0].replace("/", ".") for one in HydraConfig.get().overrides.task]
    run(cfg, "fv.steps.analyses", "run_analyse", given=given, show="print_analyses")


def main() -> None:
    take_any_text()
    if sys.argv[1:] == ["list"]:
        from fv.steps.listing import list_analyses

        list_analyses()
    else:
        analyse()


if __name__ == "__main__":
    main()
