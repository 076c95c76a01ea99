"""Step6: injects function vectors into zero-shot prompts, and measures their effects."""

from pathlib import Path

from omegaconf import DictConfig

from .app import entrypoint, run


@entrypoint("step6")
def main(cfg: DictConfig) -> Path | None:
    return run(cfg, "fv.steps.step6", "run_step6", show="print_report")


if __name__ == "__main__":
    main()
