"""Flag-style StepE: the source's own command line (`--help` lists the flags)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from entrypoints.flags import main

if __name__ == "__main__":
    main("stepe")
