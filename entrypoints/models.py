"""The models there are: `python -m entrypoints.models` lists them, `… models check model=<name>` proves one."""

import sys

import hydra
from omegaconf import DictConfig

from entrypoints.app import run


@hydra.main(version_base="1.3", config_path="../conf", config_name="models")
def check(cfg: DictConfig) -> None:
    run(cfg, "fv.steps.models", "check_model")


def main() -> None:
    match sys.argv[1:]:
        case [] | ["list"]:
            from fv.steps.models import list_models

            list_models()
        case ["check", *_]:
            del sys.argv[1]
            check()
        case _:
            sys.exit(f"{__doc__}\nThe first word is list or check; settings follow check.")


if __name__ == "__main__":
    main()
