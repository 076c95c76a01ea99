"""Sweeps and commands side by side: each has its own place, and none is in another's way."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commands import module

from fv.files import read_json

NUMBERS = ("cie_scores.csv", "step6/eval_summary.json")


@pytest.mark.slow
def test_a_sweep_over_relations_gathers_each_in_a_place_of_its_own(tiny_overrides: list[str], tmp_path: Path) -> None:
    module("pipeline", *tiny_overrides, "injection.layer=1")
    sources = "injection.fv_source_qid=antonym,verb_past"
    module("step6", "-m", *tiny_overrides, "injection.fv=qid", sources, "injection.layer=0,1", "tag=own")
    step6 = tmp_path / "relation" / "r" / "artifacts" / "step6" / "own"
    found = {path.parent.name: read_json(path) for path in step6.glob("*/eval_summary.json")}
    assert {summary["fvs"][0] for summary in found.values()} == {"antonym", "verb_past"}
    assert all(summary["layers"] == [0, 1] for summary in found.values())
    assert all("fv_source_qid" in name for name in found) and not (step6 / "eval_summary.json").exists()


@pytest.mark.slow
def test_two_commands_on_one_fresh_run_end_as_one_does(tiny_overrides: list[str], tmp_path: Path) -> None:
    module("pipeline", *tiny_overrides, "run_id=alone")
    with ThreadPoolExecutor(2) as pool:
        said = [done.stderr for done in pool.map(lambda _: module("pipeline", *tiny_overrides), range(2))]
    alone, both = (tmp_path / "relation" / run / "artifacts" for run in ("alone", "r"))
    for name in NUMBERS:
        assert (both / name).read_bytes() == (alone / name).read_bytes(), name
    assert any("complete" in text for text in said)
