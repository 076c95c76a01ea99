"""Greedy continuations: those of a plain loop over each prompt alone, whatever the batch and the model's settings."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import BOS_ID, load_local, with_template
from edit_oracle import edited_logits
from families import FAMILIES, tiny_editable
from hypothesis import given
from hypothesis import strategies as st
from sweep_checks import few

from fv.errors import ConfigError, FvError, FvWarning, ModelError
from fv.interventions.editable import EditableModel
from fv.interventions.edits import AddVector
from fv.models.prompt import Prompt

END = 2
"""The token that ends a text in the tiny models."""


@pytest.fixture(scope="module")
def models() -> Callable[[str], EditableModel]:
    made: dict[str, EditableModel] = {}
    return lambda family: made.get(family) or made.setdefault(family, tiny_editable(family))


@pytest.fixture(scope="module")
def llama(models: Callable[[str], EditableModel]) -> EditableModel:
    return models("llama")


def greedy(lm: EditableModel, token_ids: Sequence[int], n_new: int) -> list[int]:
    """What follows a prompt, by one full forward a token."""
    text = list(token_ids)
    for _ in range(n_new):
        text.append(int(edited_logits(lm, text, [], [])[-1].argmax()))
        if text[-1] == END:
            break
    return text[len(token_ids) :]


def said(lm: EditableModel, token_ids: Sequence[int], n_new: int) -> str:
    return lm.tokenizer.decode(greedy(lm, token_ids, n_new), skip_special_tokens=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_of_several_lengths_are_continued_as_each_alone(
    models: Callable[[str], EditableModel], family: str
) -> None:
    lm, prompts = models(family), ["Q: hot\nA:", "x", "the capital of Italy"]
    assert lm.generate(prompts, 6) == [said(lm, lm.encode(text, False), 6) for text in prompts]


@few
@given(prompts=st.lists(st.lists(st.integers(0, 96), min_size=1, max_size=12), min_size=1, max_size=5))
def test_any_batch_is_continued_as_each_prompt_alone(llama: EditableModel, prompts: list[list[int]]) -> None:
    found = llama.generate([Prompt(tuple(ids), (3,)) for ids in prompts], 5)
    assert found == [said(llama, ids, 5) for ids in prompts]


def test_a_text_gives_a_text_and_a_list_a_list(llama: EditableModel) -> None:
    assert isinstance(llama.generate("hot"), str)
    assert llama.generate(["hot"], 3) == [llama.generate("hot", 3)]
    assert llama.generate([], 3) == []
    assert llama.generate(Prompt(tuple(llama.encode("hot", False)), (3,)), 3) == llama.generate("hot", 3)


def test_a_text_ends_where_the_model_ends_it(llama: EditableModel) -> None:
    """Some prompt of one token makes the model say the ending token soon, and some does not."""
    found = {start: greedy(llama, [start], 12) for start in range(3, 40)}
    assert {END in tokens for tokens in found.values()} == {True, False}
    ended = [tokens[: tokens.index(END)] if END in tokens else tokens for tokens in found.values()]
    due = [llama.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in ended]
    assert llama.generate([Prompt((start,), (3,)) for start in found], 12) == due


def test_what_a_models_own_settings_ask_for_is_set_aside_and_kept() -> None:
    lm = tiny_editable("gpt2")
    due = lm.generate("Q: hot", 8)
    settings = lm.model.generation_config
    settings.update(do_sample=True, temperature=3.0, repetition_penalty=9.0, no_repeat_ngram_size=1, num_beams=2)
    before = settings.to_dict()
    lm.model.train()
    lm.model.config._attn_implementation = "sdpa"
    assert lm.generate("Q: hot", 8) == due
    assert lm.model.generation_config is settings and settings.to_dict() == before
    assert lm.model.training and lm.model.config._attn_implementation == "sdpa"


def test_the_ending_token_of_a_models_settings_is_respected(llama: EditableModel) -> None:
    lm = tiny_editable("llama")
    tokens = greedy(lm, [7], 6)
    lm.model.generation_config.eos_token_id = [END, tokens[2]]
    n_said = tokens.index(tokens[2])
    assert lm.generate(Prompt((7,), (3,)), 6) == lm.tokenizer.decode(tokens[:n_said], skip_special_tokens=True)


def test_a_prompt_gets_the_special_tokens_that_the_tokenizer_adds(bos_folder: Path) -> None:
    lm = load_local(bos_folder)
    assert lm.generate("Q: hot\nA:", 4) == said(lm, [BOS_ID, *lm.encode("Q: hot\nA:", False)], 4)


def test_a_tokenizer_that_closes_texts_is_refused(tiny_llama_folder: Path, tmp_path: Path) -> None:
    lm = load_local(with_template(tmp_path / "closing", tiny_llama_folder, "$A <|endoftext|>"))
    with pytest.raises(ModelError, match="closes every text with a token"):
        lm.generate("Q: hot")
    assert lm.generate(Prompt((5, 6), (7,)), 2)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"prompts": "x" * 60}, ModelError, r"prompts\[0\] has 60 tokens, and with max_new_tokens=20 .* 64 positions"),
        ({"prompts": ["x", "y" * 64], "max_new_tokens": 1}, ModelError, r"prompts\[1\] has 64 tokens"),
        ({"prompts": ["x", ""]}, ModelError, r"prompts\[1\] has no token to continue"),
        ({"prompts": 3}, ConfigError, "prompts is a int: give a text, a Prompt, or a list"),
        ({"prompts": [3, 4]}, ConfigError, r"prompts\[0\] is a int: give a text or a Prompt"),
        ({"prompts": "x", "max_new_tokens": 0}, ConfigError, "max_new_tokens=0 must be a whole number, 1 or more"),
        ({"prompts": "x", "max_new_tokens": 2.5}, ConfigError, r"max_new_tokens=2\.5 must be"),
        ({"prompts": "x", "max_new_tokens": True}, ConfigError, "max_new_tokens=True must be"),
    ],
)
def test_what_cannot_be_continued_is_refused(
    llama: EditableModel, given: dict[str, Any], kind: type[FvError], message: str
) -> None:
    with pytest.raises(kind, match=message) as error:
        llama.generate(**given)
    assert "\n" not in str(error.value)


# Under edits


def test_an_edit_acts_at_each_prompts_last_token(llama: EditableModel) -> None:
    prompts, edit = ["Q: hot\nA:", "x"], AddVector(1, 3 * torch.ones(llama.d_model))
    with llama.edited(edit):
        found = llama.generate(prompts, 1)
    encoded = [llama.encode(text, False) for text in prompts]
    due = [int(edited_logits(llama, ids, [edit], [len(ids) - 1])[-1].argmax()) for ids in encoded]
    assert found == [llama.tokenizer.decode([token], skip_special_tokens=True) for token in due]
    assert found != llama.generate(prompts, 1)


def test_a_prompt_that_does_not_end_as_the_vectors_do_is_warned_of(llama: EditableModel) -> None:
    edit = AddVector(1, torch.ones(llama.d_model), prompt_ending="\nA:")
    said_of_one = r"1 of 2 prompts do not end with '\\nA:'.*'Q: cold'"
    with pytest.warns(FvWarning, match=said_of_one) as warned, llama.edited(edit):
        llama.generate(["Q: hot\nA:", "Q: cold"], 2)
    assert warned[0].filename == __file__
    ids = tuple(llama.encode("Q: cold", False))
    with pytest.warns(FvWarning, match="1 of 1 prompts"), llama.edited(edit):
        llama.generate(Prompt(ids, (3,)), 2)


def test_prompts_that_end_as_the_vectors_do_are_not_warned_of(llama: EditableModel) -> None:
    edits = [AddVector(1, torch.ones(llama.d_model), prompt_ending="\nA:"), AddVector(1, torch.ones(llama.d_model))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with llama.edited(edits):
            llama.generate(["Q: hot\nA:", Prompt(tuple(llama.encode("Q: cold\nA:", False)), (3,))], 2)
        llama.generate("Q: cold", 2)


def test_the_embedded_model_knows_a_capital(smollm2: EditableModel) -> None:
    assert smollm2.generate(["The capital of France is", "2, 4, 6,"], 3)[0].startswith(" Paris")
