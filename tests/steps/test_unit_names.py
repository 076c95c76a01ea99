"""Units say what they are of: a relation whose name begins another's has none of its units."""

import csv
from pathlib import Path

import pytest
from tiny_runs import TinyRun

from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.runs.paths import RunPaths
from fv.steps.status import run_status
from fv.steps.stepd import run_stepd
from fv.work.store import UnitName, unit_names


def test_a_relation_is_not_credited_with_units_of_another_whose_name_begins_with_its_own(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "own.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["q_id", "exA", "exB"])
        writer.writerows([q_id, f"in{n} {q_id}", f"out{n}"] for q_id in ("a", "a-b") for n in range(16))
    own = tiny_run.but({"data.relation_csv_path": tmp_path / "own.csv"})
    run_stepd(own({"data.qids": ["a-b"]}))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SharedPrefixEngine, "last_token", killed)
    with pytest.raises(KeyboardInterrupt):
        run_stepd(own())
    config = own()
    found = {
        units.kind: (list(units.relations), list(units.lacking)) for units in run_status(RunPaths.of(config)).units
    }
    assert found == dict.fromkeys(("clean", "effects", "zero_shot"), (["a-b"], ["a"]))
    assert {name for _, name in unit_names(RunPaths.of(config).units)} == {UnitName(kind, "a-b") for kind in found}
