"""Records are read back as what was written, keep to their schemas, and are migrated from one version to the next."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from records import rewrite
from schemas import FOLDER, schemas

from fv.errors import ArtifactError
from fv.files import read_json
from fv.runs.migrations import SCHEMA, migrated
from fv.runs.paths import AIE_META, FV_META, STEP6_META
from fv.runs.records import (
    DIGEST,
    AieRecord,
    AnalysisRecord,
    Record,
    Step6Record,
    StepDRecord,
    StepERecord,
    read_record,
    write_record,
)
from fv.runs.run import open_run

KINDS: dict[str, type[Record]] = {
    "stepD_meta.json": StepDRecord,
    FV_META: StepERecord,
    AIE_META: AieRecord,
    STEP6_META: Step6Record,
    "analysis_meta.json": AnalysisRecord,
}


def records_of(root: Path) -> list[Path]:
    found = [path for path in sorted(root.rglob("*.json")) if path.name in KINDS]
    assert {path.name for path in found} >= {"stepD_meta.json", FV_META, STEP6_META, "analysis_meta.json"}
    return found


def test_a_record_written_again_has_the_same_bytes(finished_run: Path, tmp_path: Path) -> None:
    for path in records_of(finished_run):
        write_record(tmp_path / "again.json", read_record(path, KINDS[path.name]))
        assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_the_schemas_in_the_docs_are_those_of_the_classes() -> None:
    assert {path: path.read_text("utf-8") for path in FOLDER.glob("*.json")} == schemas(), "run make schemas"


def test_every_file_of_a_run_keeps_to_its_schema(finished_run: Path) -> None:
    validators = {
        path.name.removesuffix(".schema.json"): Draft202012Validator(json.loads(text))
        for path, text in schemas().items()
    }
    checked = set()
    for path in finished_run.rglob("*.json"):
        if path.stem not in validators:
            continue
        value = read_json(path)
        value.pop(DIGEST, None)
        validators[path.stem].validate(value)
        if "config" in value:
            validators["config"].validate(value["config"])
        checked.add(path.stem)
    assert checked >= {"sampled_trials", "stepD_meta", "fv_global_resid_meta", "eval_meta", "eval_summary"}


def test_a_summary_is_read_back_as_what_is_in_its_file(finished_run: Path) -> None:
    run = open_run(finished_run)
    (path,) = finished_run.rglob("step6/eval_summary.json")
    assert run.summary.as_json() == read_json(path)
    assert run.summary.chosen and run.summary.held_out[0].metrics["logprob"].mean < 0


def test_a_record_is_brought_to_todays_schema_one_version_at_a_time() -> None:
    steps = {2: lambda record: {"b": record["a"]}, 3: lambda record: {**record, "c": record["b"] + 1}}
    assert migrated({"schema_version": 2, "a": 1}, steps, 4) == {"schema_version": 4, "b": 1, "c": 2}
    assert migrated({"schema_version": 3, "b": 5}, steps, 4) == {"schema_version": 4, "b": 5, "c": 6}
    assert migrated({"schema_version": 4, "d": 0}, steps, 4) == {"schema_version": 4, "d": 0}


@pytest.mark.parametrize(
    ("version", "told"),
    [
        (SCHEMA + 1, "Update this package"),
        (1, "Start another run_id"),
        ("2", "Start another run_id"),
        (None, "Start another"),
    ],
)
def test_a_record_of_a_version_that_is_not_known_is_refused_with_a_remedy(
    copied_run: Path, version: object, told: str
) -> None:
    path = copied_run / "artifacts" / "stepD_meta.json"
    rewrite(path, lambda record: record.update(schema_version=version))
    with pytest.raises(ArtifactError, match=rf"stepD_meta\.json cannot be read\. .*{told}"):
        open_run(copied_run)


def test_a_record_of_another_kind_is_refused(finished_run: Path) -> None:
    with pytest.raises(ArtifactError, match="is not the record of a step: step: "):
        read_record(finished_run / "artifacts" / "stepD_meta.json", Step6Record)


def test_a_record_that_lacks_a_field_is_refused(copied_run: Path) -> None:
    path = copied_run / "artifacts" / "stepD_meta.json"
    rewrite(path, lambda record: record.pop("special_tokens"))
    with pytest.raises(ArtifactError, match="It lacks special_tokens"):
        read_record(path, StepDRecord)
