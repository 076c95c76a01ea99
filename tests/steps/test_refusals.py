"""Each row of the contract's table of errors (spec section 7): the message, and that nothing is lost."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_runs import TinyRun
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from fv.config import Config
from fv.errors import ArtifactError, ConfigError, ModelError, RelationError, TrialError
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.steps.step6 import run_step6
from fv.steps.stepd import run_stepd
from fv.steps.stepe import run_stepe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"q_id,exA\na,b\n", r"bad\.csv, line 1, has no column exB; its columns are: q_id, exA"),
        (b"q_id,exA,exB\na,b,c\n,,\n", r"line 3: the row is empty"),
        (b"q_id,exA,exB\na,b,c\na,,c\n", r"line 3: column exA is empty"),
        (b"q_id,exA,exB\na,b,c\na,\xe9t\xe9,c\n", r"not UTF-8: line 3"),
    ],
)
def test_a_bad_csv_is_named_by_line_and_nothing_is_written(
    tiny_run: TinyRun, tmp_path: Path, text: bytes, message: str
) -> None:
    (tmp_path / "bad.csv").write_bytes(text)
    config = tiny_run({"data.relation_csv_path": tmp_path / "bad.csv"})
    with pytest.raises(RelationError, match=message):
        run_stepd(config)
    assert not RunPaths.of(config).root.exists()


def test_duplicates_warn_with_counts_are_recorded_and_strict_refuses(
    tiny_run: TinyRun, small_csv: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    csv = tmp_path / "twice.csv"
    csv.write_text(small_csv.read_text() + "antonym,zig,zag\nantonym,zig,zag\nantonym,zig,zog\n")
    own = tiny_run.but({"data.relation_csv_path": csv, "data.qids": ["antonym"]})
    config = own()
    run_stepd(config)
    log = (RunPaths.of(config).logs / "stepD_aie.log").read_text()
    assert "antonym: 1 duplicate pairs; each is used once." in log
    assert "antonym: 1 inputs have several outputs." in log
    meta = json.loads(RunPaths.of(config).snapshot.read_text())["meta"]
    assert (meta["duplicates"], meta["one_to_many"]) == ({"antonym": 1}, {"antonym": 1})
    with pytest.raises(RelationError, match=r"data\.strict=true"):
        run_stepd(own({"data.strict": True}, run_id="strict"))


@pytest.mark.slow
def test_target_boundary_mismatch_shows_both_token_lists(
    tiny_run: TinyRun, tiny_llama_folder: Path, tmp_path: Path
) -> None:
    # A tokenizer that closes every text with a token of its own puts it between prompt and answer.
    folder = tmp_path / "closing"
    shutil.copytree(tiny_llama_folder, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(single="$A <|im_end|>", special_tokens=[("<|im_end|>", 2)])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = tiny_run({"model.path": folder, "model.add_special_tokens": True, "data.qids": ["antonym"]})
    with pytest.raises(TrialError, match=r"(?s)antonym.*target boundary mismatch.*the prompt is \[.*target is \["):
        run_stepd(config)


def test_colliding_first_tokens_are_warned_of_with_the_rate(tiny_run: TinyRun, tmp_path: Path) -> None:
    csv = tmp_path / "digits.csv"
    csv.write_text("q_id,exA,exB\n" + "".join(f"next,{i},{i + 1}\n" for i in range(10, 40)))
    config = tiny_run({"data.relation_csv_path": csv})
    run_stepd(config)
    assert "outputs collide (100%)" in (RunPaths.of(config).logs / "stepD_aie.log").read_text()
    collisions = json.loads(RunPaths.of(config).snapshot.read_text())["meta"]["first_token_collisions"]["next"]
    assert collisions == {"n_outputs": 30, "n_colliding": 30, "rate": 1.0}


def test_unknown_family_is_refused_with_the_paths_tried(tiny_run: TinyRun, tmp_path: Path) -> None:
    folder = tmp_path / "opt"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "xglm", "architectures": ["XGLMForCausalLM"]}))
    config = tiny_run({"model.path": folder})
    with pytest.raises(ModelError, match=r"'xglm' have no spec.*transformer\.h\.\*\.attn\.c_proj"):
        run_stepd(config)


def test_a_model_that_is_not_there_says_where_it_was_looked_for(tiny_run: TinyRun) -> None:
    config = tiny_run({"model.path": "/nowhere/model"})
    with pytest.raises(ModelError, match=r"/nowhere/model/config\.json.*model=smollm2.*model\.id="):
        run_stepd(config)


def test_changed_weights_behind_the_same_path_are_refused(
    tiny_run: TinyRun, tiny_llama_folder: Path, tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama_folder, folder)
    own = tiny_run.but({"model.path": folder})
    run_stepd(own())
    model = type(tiny_llama.model).from_pretrained(folder)
    with torch.no_grad():
        model.model.norm.weight.mul_(1.5)
    model.save_pretrained(folder)
    with pytest.raises(ArtifactError, match="weights_sha256: there"):
        run_stepe(own())


def test_stepe_before_stepd_names_the_command(tiny_run: TinyRun) -> None:
    for step in (run_stepe, run_step6):
        with pytest.raises(ArtifactError, match=r"Run it first: python -m entrypoints\.stepd run_id=r"):
            step(tiny_run())


def test_step6_before_stepe_names_the_command(tiny_run: TinyRun) -> None:
    run_stepd(tiny_run())
    with pytest.raises(ArtifactError, match=r"Run StepE first: python -m entrypoints\.stepe run_id=r"):
        run_step6(tiny_run())


def test_a_relation_too_small_fails_fast_with_the_count(tiny_run: TinyRun, tmp_path: Path) -> None:
    csv = tmp_path / "short.csv"
    csv.write_text("q_id,exA,exB\n" + "".join(f"tiny,in{i},out{i}\n" for i in range(5)))
    config = tiny_run({"data.relation_csv_path": csv})
    with pytest.raises(TrialError, match=r"(?s)tiny: 1 of 3 eval trials.*5 pairs make 5 groups.*data\.allow_drop=true"):
        run_stepd(config)
    assert not RunPaths.of(config).root.exists()


def test_non_canonical_runs_must_be_asked_for_and_say_so(tiny_run: TinyRun) -> None:
    with pytest.raises(ConfigError, match=r"not canonical.*compute\.strict=false"):
        tiny_run({"compute.dtype": "fp64"})
    config: Config = tiny_run({"compute.dtype": "fp64", "compute.strict": False})
    run_stepd(config)
    assert json.loads(RunPaths.of(config).stepd_meta.read_text())["canonical"] is False
