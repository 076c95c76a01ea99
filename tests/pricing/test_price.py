"""A plan of settings: it loads no weights, refuses what the pipeline refuses, and counts what the pipeline runs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import scale
from commands import ROOT
from flop_oracle import CountedFlops
from tiny_runs import Settings, TinyRun, TinyRunIn

import fv
from fv.errors import FvError
from fv.interventions.selfcheck import selfcheck
from fv.models.language_model import LanguageModel
from fv.pricing.ledger import StagePrice
from fv.pricing.operations import Operations, PromptPass
from fv.pricing.pricing import SELFCHECK_PASSES, SELFCHECK_TOKENS, Processor, priced
from fv.pricing.shape import Shape
from fv.pricing.throughput import GivenThroughput
from fv.steps.pipeline import run_pipeline
from fv.steps.plan import model_of, run_plan, workload_of

SMALL: Settings = {
    "run_id": "small",
    "data.n_trials_per_q": 3,
    "data.n_demos": 2,
    "data.n_eval_trials_per_q": 4,
    "score.k": 2,
    "injection.fv": "all_qids",
    "injection.alpha": [1, 2],
    "eval_scope.mode": "in_domain",
    "analysis": ["cost"],
    "analysis.cost.n_texts": 2,
    "stats.n_resamples": 100,
    "plan.tflops": 1,
}


@pytest.fixture
def tiny_run(tiny_run_in: TinyRunIn, tmp_path: Path) -> TinyRun:
    return tiny_run_in(tmp_path).but(SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("analysis", ["cost", "baselines"])
def test_a_plan_is_of_what_the_pipeline_runs(tiny_run: TinyRun, analysis: str) -> None:
    config = tiny_run({"data.qids": ["antonym", "verb_past"], "analysis": [analysis]})
    load = workload_of(config, model_of(config.plan, config.model, config.compute).lm)
    price = priced(load, Processor(tflops=1.0))
    with CountedFlops() as counter:
        run_pipeline(config)
    # Where cells are chosen is not known, and this many layers make that a tenth; nor how many options a comparison of
    # makers tries until one is within the budget of harm.
    assert price.total("exact").flops == pytest.approx(counter.total, rel=0.1 if analysis == "cost" else 0.2)


@pytest.mark.slow
def test_the_null_is_priced_as_so_many_times_a_relations_heads_and_evaluation(tiny_run: TinyRun) -> None:
    config = tiny_run()
    lm = model_of(config.plan, config.model, config.compute).lm
    shape = Shape.of(lm)

    def stages(*changes: Settings) -> dict[str, StagePrice]:
        # A model with so few heads has few sets of random heads, more or fewer beside other top heads.
        without: Settings = {
            "data.qids": ["antonym"],
            "analysis.cost.n_texts": 0,
            "evaluation.conditions.random_heads.enabled": False,
            "evaluation.conditions.ablated_heads.draws": 0,
        }
        load = workload_of(tiny_run(without, *changes), lm)
        every = priced(load, Processor(tflops=1.0)).stages
        return {f"{one.step}, {one.name}": one for one in every if one.only != "screened"}

    without = stages()
    asked = {"analysis": ["null", "cost"], "analysis.null.screen": "run"}
    twenty, forty = (stages(asked, {"analysis.null.draws": n}) for n in (20, 40))
    assert {*twenty} - {*without} == {"null, units"}
    assert (len(twenty["null, units"].units), len(forty["null, units"].units)) == (20, 40)
    assert forty["null, units"].work.flops(shape) == pytest.approx(2 * twenty["null, units"].work.flops(shape))
    once = sum(one.work.flops(shape) for one in without.values())
    assert twenty["null, units"].work.flops(shape) == pytest.approx(20 * once, rel=0.1)


def test_a_plan_needs_no_weights(tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "without"
    shutil.copytree(Path(str(tiny_run().model.path)), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    run_plan(tiny_run({"model.path": folder}))
    assert "effects" in capsys.readouterr().out
    for file in folder.iterdir():
        if file.name != "config.json":
            file.unlink()
    run_plan(tiny_run({"model.path": folder}))
    assert "tokenizer of smollm2" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong",
    [
        {"score.k": 400},
        {"injection.layer": [7]},
        {"injection.k": [1, 400]},
        {"data.qids": ["nothing"]},
        {"score.layers": [9]},
        {"evaluation.dev_fraction": 0.0},
        {"eval_scope.mode": "qid_list", "eval_scope.qids": ["nothing"]},
    ],
)
def test_a_plan_refuses_what_the_pipeline_refuses(tiny_run: TinyRun, wrong: Settings) -> None:
    said = []
    for run in (run_plan, run_pipeline):
        with pytest.raises(FvError) as error:
            run(tiny_run(wrong))
        said.append(str(error.value))
    assert said[0] == said[1]


def test_a_shape_that_is_not_ready_is_refused_with_those_that_are(tiny_run: TinyRun) -> None:
    with pytest.raises(FvError, match=r"plan.shape='llama9'.*llama31_70b"):
        run_plan(tiny_run({"plan.shape": "llama9"}))


@pytest.mark.slow
def test_a_plan_of_seventy_billion_parameters_takes_less_than_a_gigabyte() -> None:
    code = (
        "import fv, re; from pathlib import Path; from scripts import scale\n"
        "(price,) = scale.prices(['llama31_70b'])\n"
        "assert price.shape.n_parameters > 7e10\n"
        # Not getrusage: what it tells begins with the memory of the process that started this one.
        "print(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) * 1024 < 1e9


@pytest.mark.slow
def test_the_page_of_scales_is_what_would_be_drawn() -> None:
    page = scale.PAGE.read_text(encoding="utf-8")
    assert scale.drawn(page, scale.drawing()) == page


def test_a_shape_counts_each_parameter_once(tiny_llama: LanguageModel, tiny_gpt2: LanguageModel) -> None:
    for lm in (tiny_llama, tiny_gpt2):
        shape = Shape.of(lm)
        assert shape.n_parameters == sum(p.numel() for p in lm.model.parameters())
        assert shape.weight_bytes == 4 * shape.n_parameters


def test_the_self_check_runs_as_many_passes_as_it_is_priced_at(tiny_llama: LanguageModel) -> None:
    tokens: list[int] = []
    handle = tiny_llama.blocks[1].register_forward_pre_hook(lambda _block, args: tokens.append(args[0][..., 0].numel()))
    try:
        selfcheck(tiny_llama)
    finally:
        handle.remove()
    assert len(tokens) == pytest.approx(SELFCHECK_PASSES, rel=0.25)
    assert sum(tokens) / len(tokens) == pytest.approx(SELFCHECK_TOKENS, rel=0.25)


def test_small_passes_wait_for_the_weights_and_large_ones_for_the_arithmetic(tiny_llama: LanguageModel) -> None:
    shape = Shape.of(tiny_llama)
    processor = GivenThroughput(flops=1e9, bytes_per_second=1e8)
    one, many = Operations(), Operations()
    one.run_rows(1, 1)
    many.run_prompts(PromptPass(10, 100), 1)
    assert processor.seconds(one, shape) == pytest.approx(shape.block_weights * 4 / 1e8)
    assert processor.seconds(many, shape) == pytest.approx(many.flops(shape) / 1e9)


def test_a_loaded_model_is_priced_as_its_folder_is(tiny_llama: LanguageModel, tiny_llama_folder: Path) -> None:
    pairs = fv.read_relations(names=["antonym"])["antonym"].pairs[:40]
    trials = fv.sample_trials({"antonym": pairs}, tiny_llama, demos=2, fit=2, held_out=4)
    whole, folder = (fv.plan(model, trials, tflops=1, k=2) for model in (tiny_llama, tiny_llama_folder))
    assert whole.total("exact") == folder.total("exact")
