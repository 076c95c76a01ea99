"""The small finished run that later versions have to open, in tests/files/frozen_run.tar.xz.

    python scripts/frozen_run.py    # make it anew, after a release whose files are to be opened from then on

Units are left out: they can be made again.
"""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ARCHIVE = ROOT / "tests" / "files" / "frozen_run.tar.xz"
SETTINGS = (
    *("run_id=frozen", "data.qids=[antonym,verb_past]", "data.n_trials_per_q=2", "data.n_eval_trials_per_q=4"),
    *("data.n_demos=2", "score.k=3", "score.layers=[14,20]", "injection.layer=[14,20]", "injection.alpha=[1.0,2.0]"),
    *("evaluation.conditions.random_vector.draws=2", "evaluation.conditions.refits.draws=2"),
    *("evaluation.conditions.random_heads.draws=1", "evaluation.conditions.ablated_heads.draws=1"),
    *("analysis.cost.n_texts=2", "stats.n_resamples=100", "compute.threads=1", "report.page=none"),
)
"""The settings of the run; the model is the embedded one."""


def main() -> None:
    """Make the run and pack it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "entrypoints.pipeline", *SETTINGS, f"results_dir={folder}", "quiet=true"]
        subprocess.run(command, cwd=ROOT, check=True)
        with tarfile.open(ARCHIVE, "w:xz") as archive:
            archive.add(Path(folder, "relation", "frozen"), "frozen", filter=_kept)
    print(f"{ARCHIVE.relative_to(ROOT)}: {ARCHIVE.stat().st_size:,} bytes")


def _kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if {"units", "logs"} & {*Path(member.name).parts} or ".lock" in member.name else member


if __name__ == "__main__":
    main()
