"""Who has the model in memory: loaded once for the steps and jobs that share a holder, and gone with its owner."""

import gc
import shutil
import weakref
from collections.abc import Iterator
from logging import Handler, LogRecord
from pathlib import Path
from typing import Any

import families
import pytest
from commands import ROOT, run
from conftest import loaded
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from tiny_runs import Settings, TinyRun
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from fv.config import Config
from fv.data.encoder import Encoder
from fv.errors import ModelError
from fv.models.language_model import LanguageModel
from fv.models.tokenizer import load_tokenizer
from fv.steps.model_holder import ModelHolder
from fv.steps.models import check_model
from fv.steps.pipeline import run_pipeline

MAP = {"model.device_map": {"model": "disk", "lm_head": "cpu"}}


class Loads:
    """Counts the models that transformers reads from files, and tells which of them are still in memory."""

    def __init__(self) -> None:
        self.models: list[weakref.ref] = []
        self.alive_at_start: list[int] = []
        self.level_and_bars: list[tuple[int, bool]] = []

    def __len__(self) -> int:
        return len(self.models)

    def alive(self) -> int:
        return sum(model() is not None for model in self.models)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    counted, from_pretrained = Loads(), AutoModelForCausalLM.from_pretrained

    def counting(*args: Any, **kwargs: Any) -> Any:
        counted.alive_at_start.append(counted.alive())
        counted.level_and_bars.append((logging.get_verbosity(), logging.is_progress_bar_enabled()))
        model, info = from_pretrained(*args, **kwargs)
        counted.models.append(weakref.ref(model))
        return model, info

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", staticmethod(counting))
    return counted


@pytest.fixture
def tiny(tiny_run: TinyRun) -> TinyRun:
    return tiny_run.but({"compute.strict": False})


# One load


@pytest.mark.slow
def test_a_holder_loads_once_for_all_configurations_of_one_model(tiny: TinyRun, loads: Loads) -> None:
    models = ModelHolder()
    first = models.of(tiny())
    for other in (
        {"run_id": "other"},
        {"seed": 7},
        {"score.k": 1},
        {"compute.max_rows": 64},
        {"compute.selfcheck": True},
        {"tag": "t"},
    ):
        assert models.of(tiny(other)).model is first.model
    assert len(loads) == 1


@pytest.mark.slow
@pytest.mark.parametrize("placed", [{"model.device_map": None}, MAP])
@pytest.mark.parametrize("other", [{"compute.dtype": "bf16"}, {"model.spec": "llama"}, {"model.allow_pickle": True}])
def test_a_model_of_other_settings_is_loaded_when_the_one_before_has_left_the_memory(
    tiny: TinyRun, loads: Loads, placed: Settings, other: Settings
) -> None:
    models = ModelHolder()
    gc.disable()  # what the holder leaves lying about stays there
    try:
        before = models.of(tiny(placed)).dtype
        after = models.of(tiny(placed, other)).dtype
        assert models.of(tiny(placed)).dtype == before
    finally:
        gc.enable()
    assert (before != after) == ("compute.dtype" in other)
    assert loads.alive_at_start == [0, 0, 0]


def test_a_configuration_changed_in_place_is_another_one(tiny: TinyRun, tiny_gpt2_folder: Path, loads: Loads) -> None:
    models, config = ModelHolder(), tiny()
    assert models.of(config).spec.name == "llama"
    config.model.path = str(tiny_gpt2_folder)
    assert models.of(config).spec.name == "gpt2"


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_leaves_nothing_of_it_in_the_holder(tiny: TinyRun, loads: Loads) -> None:
    models = ModelHolder()
    models.of(tiny())
    for _ in range(2):
        with pytest.raises(ModelError, match="nowhere"):
            models.of(tiny({"model.path": "nowhere"}))
    assert loads.alive() == 0
    models.of(tiny())
    assert len(loads) == 2


# The self-check


def test_a_skipped_selfcheck_is_made_up_for_once(tiny: TinyRun, tiny_llama: LanguageModel) -> None:
    models = ModelHolder()
    assert models.of(tiny()).selfcheck == {"skipped": True}
    found = models.of(tiny({"compute.selfcheck": True})).selfcheck
    assert found == tiny_llama.selfcheck and found["identity_bit_equal"]
    assert models.of(tiny()).selfcheck == {"skipped": True}, "metadata says what the configuration asked for"
    assert models.of(tiny({"compute.selfcheck": True})).selfcheck is found


def test_a_model_loaded_unchecked_is_refused_by_the_first_who_asks(tiny: TinyRun, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nmodel_types: [llama]\nblocks: model.layers\nout_proj: self_attn.q_proj\nfinal_norm: model.norm\n"
    )
    models, wrong = ModelHolder(), {"model.spec_file": tmp_path / "mine.yaml"}
    models.of(tiny(wrong))
    for _ in range(2):
        with pytest.raises(ModelError, match="the spec mine"):
            models.of(tiny(wrong, {"compute.selfcheck": True}))


# The memory


def used(models: ModelHolder, config: Config) -> None:
    lm = models.of(config)
    assert lm.out_weight(0).shape == (lm.d_model, lm.n_heads * lm.head_dim)


@pytest.mark.parametrize("placed", [{"model.device_map": None}, MAP])
def test_nothing_keeps_a_model_when_its_holder_is_gone(tiny: TinyRun, loads: Loads, placed: Settings) -> None:
    models = ModelHolder()
    used(models, tiny(placed, {"compute.selfcheck": True}))
    assert loads.alive() == 1
    del models
    gc.collect()
    assert loads.alive() == 0


def test_nothing_keeps_a_quantised_model_whose_weights_were_unpacked(
    tiny: TinyRun, tiny_llama_folder: Path, loads: Loads, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    families.tiny("llama", hidden_size=64, head_dim=16, intermediate_size=128).model.save_pretrained(tmp_path / "wide")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_llama_folder / name, tmp_path / "wide" / name)
    used(ModelHolder(), tiny({"model.path": tmp_path / "wide"}, {"model.quant": "nf4"}))
    gc.collect()
    assert (len(loads), loads.alive()) == (1, 0)


@pytest.mark.slow
def test_a_function_that_was_given_no_holder_leaves_no_model(tiny: TinyRun, loads: Loads) -> None:
    run_pipeline(tiny({"compute.selfcheck": True}, {"injection.layer": 1}))
    check_model(tiny())
    gc.collect()
    assert (len(loads), loads.alive()) == (2, 0)


def test_a_complete_run_needs_no_model(tiny: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny({"injection.layer": 1})
    folder = run_pipeline(config)
    monkeypatch.setattr(ModelHolder, "of", lambda *_: pytest.fail("the model was asked for"))
    assert run_pipeline(config, ModelHolder()) == folder


SWEEP = """
import gc, sys, weakref
sys.path.insert(0, {root!r})
from transformers import AutoModelForCausalLM
from entrypoints.pipeline import main
from_pretrained, models = AutoModelForCausalLM.from_pretrained, []
def counting(*args, **kwargs):
    model, info = from_pretrained(*args, **kwargs)
    models.append(weakref.ref(model))
    return model, info
AutoModelForCausalLM.from_pretrained = counting
sys.argv = ["pipeline", "-m", *{overrides!r}]
main()
gc.collect()
print("loaded", len(models), "kept", sum(model() is not None for model in models))
"""


@pytest.mark.slow
def test_a_sweep_with_its_gathering_loads_once_and_keeps_nothing(tiny_run: TinyRun, tmp_path: Path) -> None:
    held_out = {"evaluation.held_out": True, "evaluation.conditions.random_vector.draws": 2, "stats.n_resamples": 200}
    overrides = [*tiny_run.words(held_out, analysis=[]), "injection.layer=0,1"]
    (tmp_path / "sweep.py").write_text(SWEEP.format(root=str(ROOT), overrides=overrides))
    done = run(str(tmp_path / "sweep.py"))
    assert "loaded 1 kept 0" in done.stdout
    assert (tmp_path / "relation/r/artifacts/step6/held_out.csv").exists(), "nothing was run on the test trials"


# What transformers says


@pytest.fixture(params=[(logging.INFO, True, True), (logging.WARNING, True, False), (0, False, False)])
def said(request: pytest.FixtureRequest) -> Iterator[tuple[int, bool, bool]]:
    """A user's level of transformers' log, its bars, and the hub's bars."""

    def put(level: int, bars: bool, hub_bars: bool) -> None:
        (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
        (enable_progress_bars if hub_bars else disable_progress_bars)()
        logging.get_logger().setLevel(level)

    before = heard()
    put(*request.param)
    yield request.param
    put(*before)


def heard() -> tuple[int, bool, bool]:
    return logging.get_logger().level, logging.is_progress_bar_enabled(), not are_progress_bars_disabled()


@pytest.mark.slow
def test_transformers_is_quiet_while_it_loads_and_then_as_the_user_had_it(
    tiny: TinyRun, tiny_llama_folder: Path, loads: Loads, said: tuple[int, bool, bool], tmp_path: Path
) -> None:
    loaded(tiny())
    assert loads.level_and_bars == [(logging.ERROR, False)]
    assert heard() == said
    load_tokenizer(tiny().model)
    assert heard() == said
    with pytest.raises(ModelError, match="names modle"):
        loaded(tiny({"model.device_map": {"modle": "disk", "lm_head": "cpu"}}))
    assert heard() == said
    shutil.copytree(tiny_llama_folder, tmp_path / "damaged")
    (tmp_path / "damaged" / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="no usable tokenizer"):
        load_tokenizer(tiny({"model.path": tmp_path / "damaged"}).model)
    assert heard() == said


def test_a_text_beyond_the_models_positions_is_left_to_our_own_words(tiny: TinyRun) -> None:
    records: list[LogRecord] = []

    class Noting(Handler):
        def emit(self, record: LogRecord) -> None:
            records.append(record)

    handler = Noting()
    logging.add_handler(handler)
    try:
        lm = loaded(tiny())
        lm.tokenizer.model_max_length = 10
        assert len(lm.encode("a b " * 20, False)) == len(Encoder(lm, False).encode(["a b " * 20])[0]) > 10
        assert records == []
        lm.tokenizer("a b " * 20)
        assert len(records) == 1, "transformers itself warns of it"
    finally:
        logging.remove_handler(handler)
