"""Compare a plan's predictions with measurements of runs: `python -m benchmarks.price`.

It runs StepD (exact and screened), the grid and the second half of Step6, on SmolLM2 and on the shape of GPT-2 small
with random weights, with two relations and some trials. Each phase runs in two fresh processes. The first measures
time, and the peak resident memory above the memory before. The second measures memory again, with freed memory returned
at once (MALLOC_MMAP_THRESHOLD_): this is the memory of tensors, which a plan predicts; glibc's malloc keeps more.
Nothing else may run on the machine meanwhile; if something does, CPU time is more reliable than time.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.measure import extra_memory
from benchmarks.subjects import configured, gpt2_shape, smollm2
from benchmarks.sweeps import show
from fv.config import Config, Screen, StatsConfig
from fv.data.relations import read_configured
from fv.data.sampling import sample_snapshot
from fv.data.trials import Trials
from fv.evaluation.evaluation import Evaluation
from fv.files import write_json
from fv.heads.effects import KEYS
from fv.heads.measurement import Measurement
from fv.heads.ranking import Ranking
from fv.heads.relations import effects_flow, indirect_effects
from fv.interventions.compute import Compute
from fv.interventions.engines import make_engine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.pricing.ledger import StagePrice
from fv.pricing.pricing import Processor, stages_of, throughput_of
from fv.pricing.throughput import Throughput
from fv.pricing.workload import Workload
from fv.steps.plan import workload_of
from fv.vectors.function_vector import function_vector
from fv.work.driver import SERIAL

RESULTS = Path("results_fv") / "price.json"
SETTINGS = (
    *("data.qids=[antonym,country_capital]", "data.n_trials_per_q=12", "data.n_eval_trials_per_q=16"),
    *("injection.fv=all_qids", "eval_scope=in_domain", "injection.layer=[2,5,8,11]", "injection.alpha=[1.0,2.0]"),
)
K = 10
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""Environment in which glibc returns memory as soon as it is freed; by default it raises these thresholds with time."""
SUBJECTS: dict[str, Callable[[LanguageModel], LanguageModel]] = {"smollm2": lambda lm: lm, "gpt2": gpt2_shape}
PHASES = {
    "StepD, exact": (("prompts, clean", "prompts, zero shot", "effects"), "screened"),
    "StepD, screened": (("prompts, clean", "prompts, zero shot", "screen", "effects"), "exact"),
    "grid": (("grid",), ""),
    "second half": (("choice of cells", "test trials, held out"), ""),
}
"""{phase: the stages of its price, and the way (exact or screened) whose stages are left out}."""


def prepared(config: Config, lm: LanguageModel, phase: str) -> Callable[[], Any]:
    """Prepare a phase, and return the function that runs it."""
    trials = Trials(sample_snapshot(read_configured(config.data), config.data, config.seed, lm))
    engine = make_engine(lm, "auto", config.compute.max_rows)
    load = workload_of(config, lm)
    if phase.startswith("StepD"):
        screen = Screen.gradient if "screened" in phase else Screen.none
        # As many verified heads as are priced, without a second round.
        score = replace(config.score, screen=screen, verify=K, verify_random=0, verify_max=K)
        how = Measurement(lm, trials.snapshot, load.heads, engine, score, config.seed)
        return lambda: SERIAL.run(effects_flow(how, StatsConfig()), "")
    # The cost of injection does not depend on the heads of the vectors.
    middle = [lm.n_layers // 2 + i for i in range(-(-3 * K // lm.n_heads))]
    effects = indirect_effects(lm, trials, layers=middle, n_trials=2, compute=Compute(progress=False))
    vectors = [(function_vector(lm, effects[q_id], k=K), [q_id]) for q_id in effects]
    ranking = Ranking(KEYS[0], K)
    evaluation = Evaluation(lm, engine, trials.snapshot, config.evaluation, ranking, effects, seed=config.seed)

    def grid() -> Any:
        return SERIAL.run(evaluation.grid_flow(vectors, load.cells, evaluation.parts(vectors, load.cells)), "")

    if phase == "grid":
        return grid
    found = grid()
    return lambda: evaluation.results(found, SERIAL.run(evaluation.held_out_flow(found), ""))


def run_phase(subject: str, phase: str) -> None:
    """Run a phase in this process, and print its seconds and bytes as JSON."""
    config = configured(*SETTINGS)
    lm = SUBJECTS[subject](smollm2())
    work = prepared(config, lm, phase)
    taken: list[float] = []
    # Weights are read from their file when they are first used.
    make_engine(lm, "auto", config.compute.max_rows).last_token([Prompt(tuple(range(16)), (0,))])

    def timed() -> None:
        start, cpu = time.perf_counter(), time.process_time()
        work()
        taken.extend((time.perf_counter() - start, time.process_time() - cpu))

    memory = extra_memory(lm, timed)
    print(json.dumps({"s": taken[0], "cpu_s": taken[1] / torch.get_num_threads(), "mb": memory}))


def measured(subject: str, phase: str, environment: dict[str, str]) -> dict[str, float]:
    """Measure a phase in a fresh process."""
    words = [sys.executable, "-m", "benchmarks.price", "--phase", phase, "--subject", subject]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return json.loads(done.stdout.splitlines()[-1])


def row(subject: str, phase: str, stages: list[StagePrice], load: Workload, throughput: Throughput) -> dict[str, Any]:
    """Make the row of a phase, with predictions and measurements."""
    names, other = PHASES[phase]
    here = [stage for stage in stages if stage.name in names and (not other or stage.only != other)]
    seconds = sum(throughput.seconds(stage.work, load.shape) for stage in here)
    memory = max(stage.peak for stage in here)
    found, given_back = measured(subject, phase, {}), measured(subject, phase, GIVEN_BACK)
    return {
        "model": subject,
        "phase": phase,
        "predicted_s": seconds,
        "measured_s": found["s"],
        "cpu_s": found["cpu_s"],
        "time": seconds / found["s"],
        "predicted_mb": memory / 1e6,
        "measured_mb": given_back["mb"],
        "with_held_back": found["mb"],
        "memory": memory / 1e6 / given_back["mb"],
    }


def main() -> None:
    """Predict, measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phase", choices=[*PHASES], help="run one phase in this process, and print what it takes")
    parser.add_argument("--subject", choices=[*SUBJECTS], help="only this model")
    args = parser.parse_args()
    if args.phase:
        run_phase(args.subject, args.phase)
        return
    rows = []
    for subject in [args.subject] if args.subject else SUBJECTS:
        load = workload_of(configured(*SETTINGS, "plan.verified=26"), SUBJECTS[subject](smollm2()))
        stages = stages_of(load)
        throughput, _ = throughput_of(load, Processor(), stages)
        assert throughput is not None
        rows += [row(subject, phase, stages, load, throughput) for phase in PHASES]
    show(Console(width=150), f"A plan against its run, {torch.get_num_threads()} threads", rows)
    write_json(RESULTS, {"threads": torch.get_num_threads(), "torch": torch.__version__, "rows": rows})


if __name__ == "__main__":
    main()
