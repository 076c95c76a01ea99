"""Another template over the same draw, and prompts beside the three that every trial has."""

import json
from pathlib import Path
from typing import Any

import pytest

from fv.config import TemplateConfig, template_presets
from fv.data.prompts import prompt_of
from fv.data.sample_trials import sample_trials
from fv.data.snapshot import Snapshot, read_snapshot
from fv.data.trials import Trials, load_trials
from fv.errors import ArtifactError, ConfigError, TrialError
from fv.models.language_model import LanguageModel
from fv.models.site import TokenClass

PAIRS = [(f"word{i}", f"answer{i}") for i in range(30)]


def sampled(lm: Any, template: str | TemplateConfig = "qa", **changes: Any) -> Trials:
    return sample_trials(
        {"r": PAIRS, "s": PAIRS[::-1]}, lm, **{"demos": 2, "fit": 3, "held_out": 3} | changes, template=template
    )


@pytest.mark.parametrize("name", template_presets())
def test_another_template_gives_the_trials_that_sampling_with_it_gives(name: str, tiny_llama: LanguageModel) -> None:
    assert sampled(tiny_llama).under(name, tiny_llama).snapshot == sampled(tiny_llama, name).snapshot


def test_there_and_back_gives_the_same_trials(tiny_llama: LanguageModel) -> None:
    trials = sampled(tiny_llama)
    again = trials.under("korean", tiny_llama).under(trials.template, tiny_llama.tokenizer)
    assert again.snapshot == trials.snapshot


def test_another_target_is_written_tokenised_and_counted_again(tiny_llama: LanguageModel) -> None:
    own = TemplateConfig(demo="{exA}: {exB}.\n", query="{exA}:", target=" the {exB}")
    trials = sampled(tiny_llama)
    found = trials.under(own, tiny_llama).snapshot
    for trial, before in zip(found.trials, trials.snapshot.trials, strict=True):
        assert (trial.query, trial.demos, trial.corrupted_demos) == (before.query, before.demos, before.corrupted_demos)
        assert trial.target_str == f" the {trial.query.exB}"
        assert trial.target_token_ids == tiny_llama.encode(trial.target_str, False)
    # Every answer now begins with the same token.
    assert {own.rate for own in found.meta.first_token_collisions.values()} == {1.0}


def test_an_answer_that_merges_into_the_new_prompt_is_refused_with_the_trial(tiny_llama: LanguageModel) -> None:
    merging = TemplateConfig(demo="{exA}= {exB}\n", query="{exA}= ", target="  {exB}")
    with pytest.raises(TrialError, match=r"trial r:fit:0000 under the template '\{exA\}= ': target boundary mismatch"):
        sampled(tiny_llama).under(merging, tiny_llama)


def test_a_prompt_that_becomes_too_long_is_refused(tiny_llama: LanguageModel) -> None:
    long = TemplateConfig(demo="{exA} {exB}\n", query=" a" * tiny_llama.max_tokens + "{exA}:", target=" {exB}")
    with pytest.raises(TrialError, match=r"trial r:fit:0000 .*and the model takes"):
        sampled(tiny_llama).under(long, tiny_llama)


def test_an_unknown_template_and_another_tokenizer_are_refused(
    tiny_llama: LanguageModel, tiny_gpt2: LanguageModel
) -> None:
    trials = sampled(tiny_llama)
    with pytest.raises(ConfigError, match="arow"):
        trials.under("arow", tiny_llama)
    for changed in (
        lambda: trials.under("arrow", tiny_gpt2),
        lambda: trials.with_prompt("one_shot", lambda trial: trial.demos[:1], tiny_gpt2),
    ):
        with pytest.raises(TrialError, match="another tokenizer"):
            changed()


# Prompts beside the three


@pytest.fixture(scope="module")
def more(tiny_llama: LanguageModel) -> Trials:
    return sampled(tiny_llama).with_prompt("one_shot", lambda trial: trial.demos[:1], tiny_llama)


def test_a_named_prompt_is_a_prompt_like_the_three(more: Trials, tiny_llama: LanguageModel) -> None:
    for trial in more.fit:
        assert list(trial.prompts) == ["clean", "corrupted", "zero_shot", "one_shot"]
        (shown,) = trial.shown["one_shot"]
        assert shown == trial.demos[0]
        text = f"Q: {shown.exA}\nA: {shown.exB}\n\nQ: {trial.query.exA}\nA:"
        assert trial.prompts["one_shot"] == text
        asked = prompt_of(tiny_llama, more.snapshot, trial, "one_shot")
        assert list(asked.token_ids) == tiny_llama.encode(text, False)
        assert asked.name == f"the one-shot prompt of the trial {trial.trial_id} of {trial.q_id}"
    assert more.table["one_shot"].tolist() == [trial.prompts["one_shot"] for trial in more.snapshot.trials]


def test_named_prompts_come_back_from_a_file(more: Trials, tmp_path: Path) -> None:
    more.save(tmp_path / "trials.json")
    assert load_trials(tmp_path / "trials.json").snapshot == more.snapshot


def test_a_file_without_named_prompts_does_not_speak_of_them(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    sampled(tiny_llama).save(tmp_path / "trials.json")
    assert "more_prompts" not in (tmp_path / "trials.json").read_text(encoding="utf-8")


def test_named_prompts_are_written_in_the_new_template_too(more: Trials, tiny_llama: LanguageModel) -> None:
    for trial in more.under("arrow", tiny_llama).fit:
        assert trial.prompts["one_shot"] == f"{trial.demos[0].exA} → {trial.demos[0].exB}\n{trial.query.exA} →"


@pytest.mark.parametrize("name", ["clean", "zero_shot", "one_shot", "two words", ""])
def test_a_name_that_is_taken_or_no_name_is_refused(more: Trials, tiny_llama: LanguageModel, name: str) -> None:
    with pytest.raises(TrialError, match="must be an identifier"):
        more.with_prompt(name, lambda trial: trial.demos[:1], tiny_llama)


def test_a_file_whose_named_prompt_has_the_name_of_one_of_the_three_is_refused(more: Trials, tmp_path: Path) -> None:
    value = json.loads(json.dumps(more.snapshot.model_dump(mode="json")))
    named = value["trials"][0]["more_prompts"]
    named["clean"] = named.pop("one_shot")
    (tmp_path / "odd.json").write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"trials\.0: Value error, more_prompts names 'clean'"):
        read_snapshot(tmp_path / "odd.json")


def test_a_prompt_that_no_trial_has_is_refused_with_those_it_has(more: Trials, tiny_llama: LanguageModel) -> None:
    with pytest.raises(TrialError, match="no prompt 'chat'; it has clean, corrupted, zero_shot, one_shot"):
        prompt_of(tiny_llama, more.snapshot, more.fit[0], "chat")


# A snapshot knows its tokens


def test_a_snapshot_knows_the_tokens_of_all_its_prompts(more: Trials, tiny_llama: LanguageModel) -> None:
    trial = more.fit[0]
    found = more.snapshot.rendered(trial, tiny_llama)
    assert {kind: prompt.text for kind, prompt in found.items()} == trial.prompts
    counts = {
        kind: sum(span.token_class is TokenClass.demo_output for span in own.spans) for kind, own in found.items()
    }
    assert counts == {"clean": 2, "corrupted": 2, "zero_shot": 0, "one_shot": 1}


def test_the_tokens_of_a_prompt_written_otherwise_are_not_known(more: Trials, tiny_llama: LanguageModel) -> None:
    changed = more.fit[0].model_copy(update={"zero_shot_prompt_str": "word?"})
    snapshot: Snapshot = more.snapshot
    with pytest.raises(TrialError, match="zero_shot prompt of the trial r:fit:0000 is not written by the snapshot's"):
        snapshot.rendered(changed, tiny_llama)
