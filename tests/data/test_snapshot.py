"""The snapshot: what is written comes back, and anything else is refused by file and field (spec section 5)."""

import copy
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from frozen_run import ARCHIVE
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.config import DataConfig
from fv.data.relations import read_configured
from fv.data.sampling import replay_snapshot, sample_snapshot
from fv.data.snapshot import Snapshot, read_snapshot, write_snapshot
from fv.errors import ArtifactError
from fv.files import sha256_of
from fv.models.language_model import LanguageModel

Json = dict[str, Any]


@pytest.fixture(scope="module")
def snapshot(tiny_llama: LanguageModel, small_csv: Path) -> Snapshot:
    data = DataConfig(relation_csv_path=str(small_csv), n_trials_per_q=2, n_demos=2, n_eval_trials_per_q=2)
    return sample_snapshot(read_configured(data), data, 42, tiny_llama)


@pytest.fixture(scope="module")
def written(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("snapshot") / "sampled_trials.json"
    write_snapshot(path, snapshot)
    return path


def test_a_snapshot_is_read_back_as_it_was_written(snapshot: Snapshot, written: Path) -> None:
    assert read_snapshot(written) == snapshot


def test_writing_what_was_read_gives_the_same_bytes(written: Path, tmp_path: Path) -> None:
    write_snapshot(tmp_path / "again.json", read_snapshot(written))
    assert (tmp_path / "again.json").read_bytes() == written.read_bytes()


def test_the_snapshot_of_a_released_run_is_written_again_with_the_same_bytes(tmp_path: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    released = tmp_path / "frozen" / "artifacts" / "sampled_trials.json"
    write_snapshot(tmp_path / "again.json", read_snapshot(released))
    assert (tmp_path / "again.json").read_bytes() == released.read_bytes()


def test_a_relations_trials_come_by_split_in_order(snapshot: Snapshot) -> None:
    assert snapshot.qids == ["antonym", "country_capital", "verb_past"]
    assert [t.trial_id for t in snapshot.of("antonym", "eval")] == ["antonym:eval:0000", "antonym:eval:0001"]
    assert [t.trial_id for t in snapshot.of("antonym", "eval", 1)] == ["antonym:eval:0000"]
    assert snapshot.of("nothing", "fit") == []


def test_a_held_out_snapshot_is_evaluated_on_its_eval_trials(snapshot: Snapshot) -> None:
    assert snapshot.eval_split == "eval"


def add_key_to_trial(value: Json) -> None:
    value["trials"][1]["note"] = "mine"


def add_key_to_meta(value: Json) -> None:
    value["meta"]["note"] = "mine"


def add_key_on_top(value: Json) -> None:
    value["note"] = "mine"


def remove_key(value: Json) -> None:
    del value["trials"][1]["target_str"]


def text_for_a_number(value: Json) -> None:
    value["trials"][1]["target_first_token_id"] = "17"


def fraction_for_a_token(value: Json) -> None:
    value["trials"][1]["target_token_ids"][0] += 0.5


def truth_for_a_number(value: Json) -> None:
    value["meta"]["seed"] = True


def number_for_an_output(value: Json) -> None:
    value["trials"][1]["query"]["exB"] = 10


def unknown_split(value: Json) -> None:
    value["trials"][1]["split"] = "test"


def newer_schema(value: Json) -> None:
    value["meta"]["schema_version"] = 2


def repeated_id(value: Json) -> None:
    value["trials"][1]["trial_id"] = value["trials"][0]["trial_id"]


def other_first_token(value: Json) -> None:
    value["trials"][1]["target_first_token_id"] += 1


def no_tokens(value: Json) -> None:
    value["trials"][1]["target_token_ids"] = []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (add_key_to_trial, "trials.1.note: Extra"),
        (add_key_to_meta, "meta.note: Extra"),
        (add_key_on_top, "note: Extra"),
        (remove_key, "trials.1.target_str: Field required"),
        (text_for_a_number, "trials.1.target_first_token_id: "),
        (fraction_for_a_token, "trials.1.target_token_ids.0: "),
        (truth_for_a_number, "meta.seed: "),
        (number_for_an_output, "trials.1.query.exB: "),
        (unknown_split, "trials.1.split: "),
        (newer_schema, "meta.schema_version: "),
        (repeated_id, "two trials have the same trial_id"),
        (other_first_token, "trials.1: Value error, target_first_token_id is not the first of target_token_ids"),
        (no_tokens, "trials.1: Value error, target_first_token_id is not the first of target_token_ids"),
    ],
)
def test_a_damaged_snapshot_is_refused_by_file_and_field(
    written: Path, tmp_path: Path, damage: Callable[[Json], None], told: str
) -> None:
    value = copy.deepcopy(json.loads(written.read_text(encoding="utf-8")))
    damage(value)
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(ArtifactError) as caught:
        read_snapshot(path)
    assert str(path) in str(caught.value) and told in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "null", "{}", '{"trials": []}', '"text"'])
def test_json_that_is_no_snapshot_is_refused_with_the_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"other\.json is not a trial snapshot of schema 1"):
        read_snapshot(path)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_a_snapshot_cut_anywhere_is_refused_with_the_file(written: Path, data: st.DataObject) -> None:
    whole = written.read_bytes()
    cut = written.with_name("cut.json")
    cut.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 3))])  # the end is "}\n"
    with pytest.raises(ArtifactError, match=r"cut\.json is truncated"):
        read_snapshot(cut)


def test_a_missing_snapshot_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none\.json is missing"):
        read_snapshot(tmp_path / "none.json")


def test_a_replay_has_the_same_trials_and_names_its_source(
    snapshot: Snapshot, written: Path, tiny_llama: LanguageModel
) -> None:
    replayed = replay_snapshot(written, None, tiny_llama)
    assert replayed.trials == snapshot.trials
    assert replayed.meta.replayed_from is not None
    assert replayed.meta.replayed_from.path == str(written)
    assert replayed.meta.replayed_from.sha256 == sha256_of(written)
    assert replayed.meta.model_copy(update={"replayed_from": None}) == snapshot.meta


def test_a_replay_keeps_the_named_relations_only(snapshot: Snapshot, written: Path, tiny_llama: LanguageModel) -> None:
    replayed = replay_snapshot(written, ["verb_past"], tiny_llama)
    assert replayed.trials == [*snapshot.of("verb_past", "fit"), *snapshot.of("verb_past", "eval")]


def test_a_replay_counts_the_relations_it_keeps(written: Path, tiny_llama: LanguageModel) -> None:
    assert set(replay_snapshot(written, ["verb_past"], tiny_llama).meta.counts) == {"verb_past"}


def test_a_replay_of_an_unknown_relation_is_refused_with_the_known_ones(
    written: Path, tiny_llama: LanguageModel
) -> None:
    with pytest.raises(ArtifactError, match="no trials of plural; it has antonym, country_capital, verb_past"):
        replay_snapshot(written, ["plural", "antonym"], tiny_llama)


def test_a_replay_with_another_tokenizer_is_refused_with_both(
    written: Path, tiny_llama: LanguageModel, tiny_gpt2: LanguageModel
) -> None:
    with pytest.raises(ArtifactError) as caught:
        replay_snapshot(written, None, tiny_gpt2)
    for part in (
        str(written),
        "antonym:fit:0000",
        *(lm.fingerprint["tokenizer_sha256"] for lm in (tiny_llama, tiny_gpt2)),
    ):
        assert part in str(caught.value)


def test_a_replay_of_changed_target_tokens_is_refused(written: Path, tmp_path: Path, tiny_llama: LanguageModel) -> None:
    value = json.loads(written.read_text(encoding="utf-8"))
    changed = value["trials"][-1]
    changed["target_token_ids"].append(11)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(ArtifactError, match=f"trial {changed['trial_id']} has target tokens"):
        replay_snapshot(path, None, tiny_llama)
