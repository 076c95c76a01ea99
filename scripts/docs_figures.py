"""Draw the README's pictures into docs/figures/, from the run of `make demo`.

python scripts/docs_figures.py [run folder] [folder of the pictures]
"""

import sys
from pathlib import Path

from fv.report.page import save_picture
from fv.report.pictures import pictures_of
from fv.report.results import RunResults
from fv.runs.run import open_run

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "results_fv" / "relation" / "demo"
NAMES = ("heads", "contrasts")
"""Names of the pictures on the run's page."""


def draw(run: Path, into: Path) -> list[Path]:
    """Draw the pictures in `NAMES` whose tables the run has, as PNG, and return their paths."""
    into.mkdir(parents=True, exist_ok=True)
    drawn = []
    for picture in pictures_of(RunResults(open_run(run))):
        if picture.name in NAMES:
            drawn.append(path := into / f"{picture.name}.png")
            save_picture(picture, path, "png")
    return drawn


def main() -> None:
    """Draw the pictures, and print their paths."""
    given = [Path(word) for word in sys.argv[1:]]
    run, into = [*given, *(DEMO, ROOT / "docs" / "figures")[len(given) :]]
    if not (run / "artifacts").exists():
        sys.exit(f"There is no run in {run}. Make it first: make demo")
    for path in draw(run, into):
        print(path)


if __name__ == "__main__":
    main()
