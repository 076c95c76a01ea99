"""Lists or checks models. The first word is one of these; settings follow it:

list     list the ready models and the families; this is the default
check    check that edits of model=<name> act, and print the measurements
"""

import sys

from omegaconf import DictConfig

from .app import entrypoint, run
from .command_line import is_answered
from .output import take_any_text


@entrypoint("models")
def check(cfg: DictConfig) -> None:
    run(cfg, "fv.steps.models", "check_model")


def main() -> None:
    take_any_text()
    if is_answered(sys.argv[1:], "models", __doc__):
        return
    match sys.argv[1:]:
        case [] | ["list"]:
            from fv.steps.listing import list_models

            list_models()
        case ["check", *_]:
            del sys.argv[1]
            check()
        case [word, *_]:
            sys.exit(f"There is nothing called {word!r} to do; give list or check.\n\n{__doc__ or ''}")


if __name__ == "__main__":
    main()
