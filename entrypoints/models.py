"""The models there are: `python -m entrypoints.models` lists them, `… models check model=<name>` proves one."""

import sys

from omegaconf import DictConfig

from .app import entrypoint, run


@entrypoint("models")
def check(cfg: DictConfig) -> None:
    run(cfg, "fv.steps.models", "check_model")


def main() -> None:
    match sys.argv[1:]:
        case [] | ["list"]:
            from fv.steps.listing import list_models

            list_models()
        case ["check", *_]:
            del sys.argv[1]
            check()
        case _:
            sys.exit(f"{__doc__}\nThe first word is list or check; settings follow check.")


if __name__ == "__main__":
    main()
