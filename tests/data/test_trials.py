"""Relations and trials in memory: the same as those of files and of a run."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.config import TemplateConfig, template_presets
from fv.data.reading import as_relations, read_relations
from fv.data.sample_trials import sample_trials
from fv.data.trials import Trials, load_trials
from fv.models.language_model import LanguageModel

text = (
    st.text(min_size=1, max_size=8)
    .filter(lambda own: bool(own.strip()) and "\0" not in own)
    .filter(lambda own: own.encode("utf-8", "ignore").decode() == own)
)
PAIRS = [(f"word{i}", f"answer{i}") for i in range(30)]


@settings(max_examples=50, deadline=None)
@given(given=st.dictionaries(text, st.lists(st.tuples(text, text), min_size=1, max_size=6), min_size=1, max_size=4))
def test_pairs_in_memory_are_read_as_those_of_a_file(
    given: dict[str, list[tuple[str, str]]], tmp_path_factory: pytest.TempPathFactory
) -> None:

    path = tmp_path_factory.getbasetemp() / "pairs.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["q_id", "exA", "exB"])
        writer.writerows((name, *pair) for name, pairs in given.items() for pair in pairs)
    here, there = as_relations(given), read_relations(path)
    assert here.relations == there.relations
    assert dict(here) == dict(there) and list(here) == sorted(given)


def test_what_was_read_is_taken_as_it_is() -> None:
    relations = read_relations(names=["antonym"])

    assert as_relations(relations) is relations
    assert as_relations(dict(relations)).relations == relations.relations


def test_a_tokenizer_alone_gives_the_models_trials(tiny_llama: LanguageModel) -> None:
    by_model = sample_trials({"r": PAIRS}, tiny_llama, demos=2, fit=3, held_out=3)
    by_tokenizer = sample_trials({"r": PAIRS}, tiny_llama.tokenizer, demos=2, fit=3, held_out=3)
    assert by_model.snapshot == by_tokenizer.snapshot


def test_counts_and_parts_are_as_asked(tiny_llama: LanguageModel) -> None:
    trials = sample_trials({"r": PAIRS, "s": PAIRS[::-1]}, tiny_llama, demos=4, fit=3, held_out=2, seed=7)
    assert list(trials) == ["r", "s"] and len(trials.fit) == 6 and len(trials.held_out) == 4
    assert all(len(trial.demos) == 4 for trial in trials.fit)
    asked = {trial.query for trial in trials["r"].held_out}
    assert not asked & {pair for trial in trials["r"].fit for pair in (trial.query, *trial.demos)}
    other = sample_trials({"r": PAIRS, "s": PAIRS[::-1]}, tiny_llama, demos=4, fit=3, held_out=2, seed=8)
    assert other.snapshot.trials != trials.snapshot.trials


@pytest.mark.parametrize("template", template_presets())
def test_a_prompt_is_that_of_a_trial_which_asks_for_it(template: str, tiny_llama: LanguageModel) -> None:
    trials = sample_trials({"r": PAIRS}, tiny_llama, demos=2, fit=2, held_out=2, template=template)
    for trial in trials.held_out:
        assert trials.prompt(trial.query.exA) == trial.zero_shot_prompt_str
    first = trials.fit[0]
    query = "none of these"
    asked = trials.prompt(query, demos=2)
    assert asked.endswith(trials.prompt(query))
    assert asked == first.clean_prompt_str.replace(first.zero_shot_prompt_str, trials.prompt(query))


def test_a_template_of_ones_own_is_taken(tiny_llama: LanguageModel) -> None:
    own = TemplateConfig(demo="{exA} => {exB};\n", query="{exA} =>")
    trials = sample_trials({"r": PAIRS}, tiny_llama, demos=1, fit=1, held_out=1, template=own)
    assert trials.prompt("hot") == "hot =>"
    assert trials.template == own


def test_trials_come_back_from_a_file_as_they_were(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    trials = sample_trials({"국가/수도": PAIRS}, tiny_llama, demos=2, fit=2, held_out=2)
    trials.save(tmp_path / "trials.json")
    assert load_trials(tmp_path / "trials.json").snapshot == trials.snapshot


def test_the_table_shows_each_trial_with_its_prompts(tiny_llama: LanguageModel) -> None:
    trials = sample_trials({"r": PAIRS}, tiny_llama, demos=2, fit=2, held_out=2)
    table = trials.table
    assert table["split"].tolist() == ["fit", "fit", "eval", "eval"]
    for row, trial in zip(table.itertuples(), trials.snapshot.trials, strict=True):
        assert (row.input, row.output) == (trial.query.exA, trial.query.exB)
        assert (row.clean, row.corrupted) == (trial.clean_prompt_str, trial.corrupted_prompt_str)
    assert "fit trials" in trials._repr_html_() and "2 fit, 2 held out" in repr(trials)


def test_trials_of_a_relation_hold_its_records_only(tiny_llama: LanguageModel) -> None:
    trials: Trials = sample_trials({"r": PAIRS, "s": PAIRS[::-1]}, tiny_llama, demos=2, fit=2, held_out=2)
    assert list(trials["s"].snapshot.meta.counts) == ["s"]
    assert trials["s"]["s"].snapshot.trials == trials["s"].snapshot.trials
