"""kill -9 at any moment of any step: the same command again ends in the bytes of a run that was left alone."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, module, surroundings

from fv.files import remove_leftovers, write_whole

SMALL = (
    *("data.qids=[antonym,verb_past]", "data.n_trials_per_q=3", "data.n_demos=3", "data.n_eval_trials_per_q=4"),
    *("score.layers=[10,20]", "score.k=3", "injection.fv=[all_qids,aie_qid]", "injection.layer=[12,15]"),
    *(
        "evaluation.conditions.random_vector.draws=2",
        "evaluation.conditions.refits.draws=2",
        "evaluation.conditions.random_heads.draws=1",
    ),
    *("analysis.cost.n_texts=2", "stats.n_resamples=100", "compute.selfcheck=false"),
    *("compute.threads=1", "compute.unit_trials=1", "report=none"),  # a page tells the name of its run
)


def files_of(run: Path) -> dict[str, bytes]:
    """What a run holds, less what tells of times and machines."""
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and "meta" not in path.name and path.suffix != ".log" and not path.name.startswith(".lock")
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_a_run_that_was_killed_at_random_moments_ends_in_the_same_bytes(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    module("pipeline", *SMALL, "run_id=whole", f"results_dir={tmp_path}")
    command = [sys.executable, "-m", "entrypoints.pipeline", *SMALL, "run_id=killed", f"results_dir={tmp_path}"]
    n_killed = 0
    for _ in range(5):
        with subprocess.Popen(command, env=surroundings(), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
            try:
                # Loading alone takes seconds; some kills fall there, others into each of the steps.
                process.wait(rng.uniform(4, 16))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                n_killed += 1
    assert n_killed
    module("pipeline", *SMALL, "run_id=killed", f"results_dir={tmp_path}")
    whole, killed = (files_of(tmp_path / "relation" / run) for run in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert [name for name in whole if whole[name] != killed[name]] == []


def test_what_a_killed_writer_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from fv.files import write_whole\n"
        "write_whole(Path(sys.argv[1]) / 'table.csv', lambda path: os.kill(os.getpid(), 9))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=surroundings(), check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".table.csv")

    def look(temporary: Path) -> None:
        remove_leftovers(tmp_path)
        assert temporary.exists() and not left.exists()
        temporary.write_text("whole")

    write_whole(tmp_path / "other.csv", look)
    assert [path.name for path in tmp_path.iterdir()] == ["other.csv"]
