"""Shows and checks relation data, without a model's weights. The first word is one of these; settings follow it:

list     show all relations with their counts
check    show all flaws with their lines; it fails if StepD would refuse the data
sample   show each relation's first prompts with the tokens of the model's tokenizer
"""

import sys

from omegaconf import DictConfig

from fv.runs.commands import command

from .app import entrypoint, run
from .command_line import is_answered
from .output import take_any_text

ACTIONS = ("list", "check", "sample")


def main() -> None:
    take_any_text()
    if is_answered(sys.argv[1:], "data", __doc__):
        return
    action = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if action not in ACTIONS:
        sys.exit(f"Say what to do: {command('data', '|'.join(ACTIONS))} [data.path=…] [key=value …]")

    @entrypoint("data")
    def look(cfg: DictConfig) -> None:
        run(cfg, "fv.steps.data", f"run_{action}", with_model=False)

    look()


if __name__ == "__main__":
    main()
