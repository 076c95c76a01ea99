"""What objects say of themselves: one line each, and of a result the small table that one wants."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import fv
from fv.data.origin import Origin
from fv.evaluation.result import Result
from fv.models.identity import Identity
from fv.models.language_model import LanguageModel

PAIRS = [
    ("hot", "cold"),
    ("up", "down"),
    ("big", "small"),
    ("old", "new"),
    ("wet", "dry"),
    ("in", "out"),
    ("on", "off"),
    ("far", "near"),
]
LONG = "a_relation_whose_name_is_long"


@pytest.fixture(scope="module")
def objects(tiny_llama: LanguageModel) -> dict[str, Any]:
    trials = fv.sample_trials({"r": PAIRS, LONG: PAIRS}, tiny_llama, demos=2, fit=2, held_out=4)
    effects = fv.indirect_effects(tiny_llama, trials, compute=fv.Compute(progress=False))
    vectors = [fv.function_vector(tiny_llama, effects[name], k=3) for name in trials]
    asked: dict[str, Any] = {"layers": [0, 1], "alphas": [1, 2], "controls": ["corrupted_prompts"], "n_unrelated": 0}
    result = fv.evaluate(tiny_llama, vectors, trials, effects=effects, compute=fv.Compute(progress=False), **asked)
    return {"trials": trials, "effects": effects, "vectors": vectors, "result": result}


def test_each_object_is_one_short_line(objects: dict[str, Any], tiny_llama: LanguageModel) -> None:
    relations = fv.read_relations(names=["antonym"])
    vector = objects["vectors"][0]
    shown = [
        *(
            relations,
            relations["antonym"],
            fv.Relation("r", (fv.Pair("a\nb", "c" * 500),), 0, 0),
            fv.Relation("r", (), 0, 0),
        ),
        *(objects["trials"], objects["trials"].snapshot, objects["trials"].fit[0]),
        *(objects["effects"], objects["effects"]["r"], objects["effects"].mean(), objects["effects"].origin),
        *(vector, vector.at(layer=1), fv.SetHeads(((1, 0),), torch.zeros(3, 4, 12))),
        *(fv.ReplaceResidual(1, torch.ones(40)), fv.AddVector(1, [1.0, 2.0])),  # type: ignore[arg-type]  # shown, and refused where it would act
        *(fv.Cell(1, 2.0), fv.Head(1, 2), tiny_llama, Identity.of(tiny_llama)),
    ]
    for each in shown:
        line = repr(each)
        assert line == str(each) and "\n" not in line and len(line) < 160, line
    assert repr(relations["antonym"]) == "Relation(antonym: 212 pairs, the first above → below)"
    assert repr(vector.at(layer=1)).startswith(
        "AddVector(layer=1, vector=tensor of (40,), prompt_ending='\\nA:', made_by="
    )
    assert repr(fv.AddVector(1, torch.ones(40))) == "AddVector(layer=1, vector=tensor of (40,))"


def test_a_result_is_a_small_table_of_its_headline(objects: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    result: Result = objects["result"]
    printed = repr(result)
    assert printed == str(result)
    title, *lines = printed.splitlines()
    assert result.origin is not None and title == f"Test trials of {result.origin.model}"
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines if line.count("  ") > 5][-len(result.headline) :]
    for row, (_, told) in zip(rows, result.headline.iterrows(), strict=True):
        place = [told["fv"], told["eval_qid"], str(told["layer"]), f"{told['alpha']:g}"]
        assert row[:5] == [*place, f"{told['delta_logprob']:+.2f}"]
        assert row[6:8] == [f"{told['minus_corrupted']:+.2f}", f"{told['accuracy']:.2f}"]
    assert f"Mind .warnings ({len(result.warnings)}): " in lines[-1] and result.warnings[0][:40] in lines[-1]
    assert result._repr_html_().count("<tr>") == 1 + len(result.headline)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_printed_table_shows_metrics_and_names_what_does_not_fit(
    objects: dict[str, Any], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    table = objects["result"].table
    lines = str(table).splitlines()
    assert "delta_logprob" in str(table).split("─")[0] and max(map(len, lines)) <= width
    named = set(re.findall(r"\w+", str(table).split("─")[0] + str(table).rpartition("… and")[2]))
    assert {*table.columns} <= named
    assert "accuracy" in str(table).split("─")[0]
    assert type(table[["fv"]]) is not type(table)  # what is made of it is a pandas table as any other


def test_a_table_of_many_rows_says_how_many_are_left_out(objects: dict[str, Any]) -> None:
    table = objects["result"].table
    many = type(table)({"fv": [str(n) for n in range(100)], "n": range(100)})
    assert str(many).endswith("… and 40 more rows") and " 59 " in str(many) and " 60 " not in str(many)


def test_an_origin_is_a_line_however_long_its_template(objects: dict[str, Any], tmp_path: Path) -> None:
    origin: Origin = objects["effects"].origin
    assert "sha256" not in repr(origin) and origin.model in repr(origin)
