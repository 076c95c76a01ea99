"""Data checks: each flaw planted in a file is found with its lines, and the verdict is StepD's."""

from pathlib import Path
from typing import Any

import pytest
from commands import module
from conftest import MakeConfig
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import TinyRun

from fv.config import DataConfig, Split
from fv.data.checks import check_rows
from fv.data.encoder import Encoder
from fv.data.marked_prompt import mark_tokens
from fv.data.relation_sampler import RelationSampler
from fv.data.relations import Pair, Relation
from fv.data.rows import Row
from fv.data.token_report import token_report
from fv.errors import ConfigError, RelationError, TrialError
from fv.models.language_model import LanguageModel
from fv.models.tokenizer import load_tokenizer
from fv.steps.data import run_check, run_list, run_sample

CLEAN = [("q", f"in{i}", f"out{i}") for i in range(20)]


def found(*rows: tuple[str, str, str]) -> list[tuple[str, tuple[str, ...]]]:
    """Kinds and places of what is found in `rows`, which stand on lines 2, 3, …"""
    return [(f.kind, f.where) for f in check_rows([Row(*row, "", line) for line, row in enumerate(rows, 2)])]


def test_a_clean_relation_has_no_findings() -> None:
    assert found(*CLEAN) == []


@pytest.mark.parametrize(
    ("planted", "kind", "lines"),
    [
        ([("q", "a", "b"), ("q", "a", "b")], "duplicate pair", (7, 8)),
        ([("q", "in1", "out1")], "duplicate pair", (3, 7)),
        ([("q", "IN1", "out1")], "one pair in several spellings", (3, 7)),
        ([("q", "in1", "other"), ("q", "in1", "third")], "input with several outputs", (3, 7, 8)),
        ([("q", "out1", "in1")], "reversed pair", (3, 7)),
        ([("q", "OUT2", "in2")], "reversed pair", (4, 7)),
        ([("q", "same", "same")], "output equal to its input", (7,)),
        ([("q", "a ", "b")], "outer or repeated spaces", (7,)),
        ([("q", "a", "b  c")], "outer or repeated spaces", (7,)),
        ([("q", "cafe\u0301", "b")], "not in Unicode NFC", (7,)),
        ([("q", "a\u200bz", "b")], "invisible character or unusual space", (7,)),
        ([("q", "a", "b\u00a0c")], "invisible character or unusual space", (7,)),
        ([("q", "a", "b\x07")], "invisible character or unusual space", (7,)),
    ],
)
def test_a_planted_flaw_is_found_with_all_its_lines(
    planted: list[tuple[str, str, str]], kind: str, lines: tuple[int, ...]
) -> None:
    assert found(*CLEAN[:5], *planted) == [(kind, tuple(f"line {line}" for line in lines))]


@pytest.mark.parametrize("text", ["👩🏽‍🚀", "می‌خواهم", "two\nlines", "한국", "naïve", "שלום"])
def test_ordinary_text_of_any_script_is_not_suspicious(text: str) -> None:
    assert found(("q", text, "b")) == []


def test_flaws_of_one_relation_are_not_seen_across_relations() -> None:
    assert found(("q", "a", "b"), ("r", "b", "a"), ("s", "a", "c"), ("t", "a", "b")) == []


# Tokens and capacity


def numbered(n: int, kin: int = 1) -> Relation:
    """`n` pairs, each input `kin` times."""
    return Relation("q", tuple(Pair(f"in {i // kin}", f"out {i}") for i in range(n)), 0, 0)


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(8, 30), kin=st.sampled_from([1, 2]), split=st.sampled_from(list(Split)), seed=st.integers(0, 10**6)
)
def test_every_maximum_can_be_sampled_and_no_more(
    tiny_llama: LanguageModel, n: int, kin: int, split: Split, seed: int
) -> None:
    counts: dict[str, Any] = {"n_demos": 2, "n_trials_per_q": 2, "n_eval_trials_per_q": 1}
    relation = numbered(n, kin)

    def refused(**changed: int) -> bool:
        data = DataConfig(split=split, **{**counts, **changed})
        try:
            RelationSampler(relation, data, seed, Encoder(tiny_llama, special=False)).sample()
        except TrialError:
            return True
        return False

    most = token_report(relation, DataConfig(split=split, **counts), 42, Encoder(tiny_llama, special=False)).capacity
    asked = {"n_demos": most.demos, "n_eval_trials_per_q": most.eval}
    for key, maximum in asked.items():
        if key == "n_eval_trials_per_q" and split is Split.shared:
            continue
        assert not refused(**{key: maximum}), (key, maximum)
        # An odd pair out makes the worst draw of eval queries unlike the others.
        if n % kin == 0:
            assert refused(**{key: maximum + 1}), (key, maximum)
    # Fit trials have no such maximum: queries are used again, and the fewest that there can be are told.
    # Up to twelve, as many queries are left over as there are fit trials.
    n_fit = most.queries + 3 * (split is Split.shared or most.queries >= 12)
    data = DataConfig(split=split, **{**counts, "n_trials_per_q": n_fit})
    trials = RelationSampler(relation, data, seed, Encoder(tiny_llama, special=False)).sample()
    assert trials.count("fit") == n_fit
    n_queries = len({trial.query for trial in trials.trials if trial.split == "fit"})
    assert n_queries == most.queries if n % kin == 0 else n_queries >= most.queries


def test_outputs_that_share_their_first_token_are_named_together(tiny_gpt2: LanguageModel) -> None:
    pairs = (Pair("a", "New York"), Pair("b", "New Delhi"), Pair("c", "Rome"), Pair("d", "Rome"))
    report = token_report(Relation("q", pairs, 0, 0), DataConfig(), 42, Encoder(tiny_gpt2, special=False))
    assert report.collisions == [("New York", "New Delhi")]
    assert (report.n_outputs, report.majority) == (3, 0.5)


def test_a_refusal_is_the_samplers_own(tiny_gpt2: LanguageModel) -> None:
    report = token_report(numbered(5), DataConfig(), 42, Encoder(tiny_gpt2, special=False))
    assert report.refusal is not None and "0 of 36 fit trials" in report.refusal


def test_tokens_are_marked_without_losing_text(tiny_gpt2: LanguageModel) -> None:
    marked, count = mark_tokens(tiny_gpt2, "Q: Poland\nA:", " Warsaw", False)
    assert marked == "Q|:| Poland|⏎\nA|:|[ Warsaw]"
    assert count == len(tiny_gpt2.encode("Q: Poland\nA:", False))


# The tokenizer without the weights


def test_the_tokenizer_of_a_folder_is_the_models_own(
    tiny_llama: LanguageModel, tiny_llama_folder: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda *_, **__: pytest.fail("weights"))
    lm = load_tokenizer(make_config("model=local", f"model.path={tiny_llama_folder}").model)
    assert lm.fingerprint["tokenizer_sha256"] == tiny_llama.fingerprint["tokenizer_sha256"]
    assert lm.max_tokens == tiny_llama.max_tokens


def test_the_tokenizer_of_the_hub_cache_is_found(
    hub_cache: Path, tiny_gpt2: LanguageModel, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import snapshot_download

    def from_cache(*args: Any, **kwargs: Any) -> str:
        return snapshot_download(*args, **kwargs, cache_dir=hub_cache / "hub")

    monkeypatch.setattr("fv.models.files.snapshot_download", from_cache)
    lm = load_tokenizer(make_config("model=gpt2").model)
    assert lm.fingerprint["tokenizer_sha256"] == tiny_gpt2.fingerprint["tokenizer_sha256"]


@pytest.mark.slow
def test_the_packaged_tokenizer_is_the_same_before_and_after_the_model_was_converted(
    make_config: MakeConfig, smollm2_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted = load_tokenizer(make_config().model)
    monkeypatch.setenv("FV_CACHE_DIR", str(tmp_path))
    packaged = load_tokenizer(make_config().model)
    assert packaged.fingerprint == converted.fingerprint
    assert packaged.max_tokens == converted.max_tokens
    assert not list(tmp_path.rglob("*.safetensors"))


# The step


@pytest.fixture
def checked(tiny_llama_folder: Path) -> TinyRun:
    return TinyRun({"model.path": tiny_llama_folder, "data.n_trials_per_q": 3, "data.n_demos": 3})


def test_every_problem_of_a_file_is_reported_at_once(
    checked: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "flawed.csv"
    rows = [f"q,in {i},out {i}" for i in range(30)]
    rows += ["q,x", "q,,y", "q,in 1,out 1", "q,out 2,in 2", "q,in 3,other", "small,a,b", "q,in 4 ,z"]
    path.write_text("\n".join(["q_id,exA,exB", *rows]), encoding="utf-8")
    with pytest.raises(RelationError) as caught:
        run_check(checked({"data.path": path}))
    refused, printed = str(caught.value), capsys.readouterr().out
    assert "line 32: 2 cells" in refused and "line 33: column exA is empty" in refused
    assert "small: 0 of 3 fit trials" in refused
    assert "line 3, line 34: 'in 1' → 'out 1'" in printed and "line 4, line 35: 'out 2' → 'in 2'" in printed
    assert "line 5, line 36" in printed and "line 38: 'in 4 '" in printed
    assert "one first token" in printed  # " out 1" and " out 2" both start with " out"


def test_a_reversed_pair_is_reported_with_both_lines(
    checked: TinyRun, small_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_check(checked({"data.path": small_csv, "data.qids": ["antonym"]}))
    printed = capsys.readouterr().out
    assert "antonym: reversed pair" in printed and "StepD would take these data." in printed
    assert "verb_past" not in printed


def test_strict_makes_a_duplicate_a_refusal(checked: TinyRun, tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    rows = [f"q,in {i},out {i}" for i in range(30)]
    path.write_text("\n".join(["q_id,exA,exB", *rows, rows[0]]), encoding="utf-8")
    run_check(checked({"data.path": path}))
    with pytest.raises(RelationError, match=r"1 duplicate pairs.*data\.strict=true"):
        run_check(checked({"data.path": path, "data.strict": True}))


def test_a_relation_that_may_be_dropped_is_no_refusal(checked: TinyRun, tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    rows = [*(f"q,in {i},out {i}" for i in range(30)), "small,a,b"]
    path.write_text("\n".join(["q_id,exA,exB", *rows]), encoding="utf-8")
    run_check(checked({"data.path": path, "data.allow_drop": True}))
    with pytest.raises(RelationError, match="small: "):
        run_check(checked({"data.path": path, "data.allow_drop": True, "data.qids": ["small"]}))


def test_the_sample_is_what_stepd_draws_first(
    checked: TinyRun,
    small_csv: Path,
    tiny_llama: LanguageModel,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from fv.data.relations import read_configured
    from fv.data.sampling import sample_snapshot

    config = checked({"data.path": small_csv}, seed=7)
    run_sample(config)
    printed = capsys.readouterr().out
    snapshot = sample_snapshot(read_configured(config.data), config.data, config.seed, tiny_llama)
    for trial in snapshot.trials:
        if trial.trial_id.endswith("fit:0000"):
            plain = printed.replace("|", "").replace("[", "").replace("]", "").replace("⏎", "")
            for text in (trial.clean_prompt_str, trial.corrupted_prompt_str, trial.zero_shot_prompt_str):
                assert text + trial.target_str in plain


def test_a_replayed_snapshot_is_no_relation_data(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"data\.fixed_trials_path"):
        run_check(make_config("data.fixed_trials_path=some.json"))


# The command


@pytest.mark.parametrize("q_id", ["a:b:c", "a[/b]", "[bold]"])
def test_the_list_shows_a_relations_name_as_it_is(
    q_id: str, make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text(f"q_id,exA,exB\n{q_id},in,out\n", encoding="utf-8")
    run_list(make_config(f"data.relation_csv_path={tmp_path / 't.csv'}", entrypoint="data"))
    assert q_id in capsys.readouterr().out.split()


def test_the_list_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    done = module("data", "list", "data.relation_csv_path=datasets/relation/relationA_ex.csv", PYTHONPATH=str(tmp_path))
    assert "3 relations, 36 pairs" in done.stdout


@pytest.mark.parametrize("arguments", [(), ("chek",), ("data.path=x",)])
def test_an_unknown_action_is_answered_with_the_known_ones(arguments: tuple[str, ...]) -> None:
    assert "list|check|sample" in module("data", *arguments, code=1).stderr


def test_the_exit_code_says_that_stepd_would_refuse(tiny_llama_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "few.csv"
    path.write_text("q_id,exA,exB\nq,a,b\n", encoding="utf-8")
    done = module("data", "check", "model=local", f"model.path={tiny_llama_folder}", f"data.path={path}", code=1)
    assert "StepD would refuse" in done.stderr and "Traceback" not in done.stderr
