"""Texts as token ids: the same whatever was done with the tokenizer before, and never two BOS tokens."""

from pathlib import Path
from typing import Any

import pytest
from conftest import BOS, BOS_ID, load_local, with_template
from hypothesis import given, settings
from hypothesis import strategies as st

import fv
from fv.config import TemplateConfig
from fv.data.encoder import Encoder, borders_of
from fv.data.marked_prompt import mark_tokens
from fv.data.origin import Origin
from fv.data.prompts import prompt_of
from fv.evaluation.cost import encoded_alike
from fv.interventions.generation import generate
from fv.models.language_model import LanguageModel
from fv.models.token_ids import tokenizer_digest

PAIRS = [("hot", "cold"), ("up", "down"), ("big", "small"), ("old", "new"), ("wet", "dry")]
TEXTS = ["Q: hot\nA:", " cold", BOS, f"{BOS}Q: hot", "a", "", "한국 😀 " * 5]
CALLS = st.fixed_dictionaries(
    {},
    optional={
        "padding": st.sampled_from([True, False, "longest", "max_length"]),
        "truncation": st.sampled_from([True, False, "only_first"]),
        "max_length": st.integers(1, 9),
        "split_special_tokens": st.booleans(),
        "add_special_tokens": st.booleans(),
        "padding_side": st.sampled_from(["left", "right"]),
    },
)


@pytest.fixture(scope="module")
def with_bos(bos_folder: Path) -> LanguageModel:
    lm = load_local(bos_folder)
    lm.tokenizer.pad_token = BOS
    return lm


def encodings(lm: LanguageModel) -> dict[str, Any]:
    """All that we make of texts with a model's tokenizer."""
    encoder = Encoder(lm, special=True)
    return {
        "ids": [lm.encode(text, special) for text in TEXTS for special in (True, False)],
        "many": encoder.encode(TEXTS),
        "apart": [encoder.encode_apart(text) for text in TEXTS],
        "borders": borders_of(lm.tokenizer),
        "marked": mark_tokens(lm, TEXTS[0], " cold", True),
        "identity": tokenizer_digest(lm.tokenizer),
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`max_length` is ignored")
@settings(deadline=None, max_examples=12)
@given(calls=st.lists(CALLS, max_size=3), leave=st.booleans())
def test_what_a_tokenizers_owner_did_with_it_changes_no_encoding_and_no_identity(
    with_bos: LanguageModel, calls: list[dict[str, Any]], leave: bool
) -> None:
    before = encodings(with_bos)
    for call in calls:
        with_bos.tokenizer(["hot", "a longer text of some tokens"], **call)
    if leave:  # as a file that was saved after such a call has it
        with_bos.tokenizer.backend_tokenizer.enable_padding(length=12)
        with_bos.tokenizer.backend_tokenizer.enable_truncation(max_length=2)
    assert tokenizer_digest(with_bos.tokenizer) == before["identity"]
    assert encodings(with_bos) == before


def test_trials_of_a_tokenizer_that_padded_in_between_are_still_its_own(tiny_llama_folder: Path) -> None:
    lm = load_local(tiny_llama_folder)
    lm.tokenizer.pad_token = lm.tokenizer.eos_token
    asked: dict[str, Any] = {"demos": 2, "fit": 2, "held_out": 2}
    first = fv.sample_trials({"r": PAIRS}, lm.tokenizer, **asked)
    lm.tokenizer(["hot", "a longer text"], padding=True, truncation=True, max_length=2)
    again = fv.sample_trials({"r": PAIRS}, lm.tokenizer, **asked)
    assert again.snapshot == first.snapshot
    assert not Origin.of(lm, again.snapshot).differences(Origin.of(lm, first.snapshot))


def test_a_tokenizer_saved_while_it_padded_is_the_same_one(tiny_llama_folder: Path, tmp_path: Path) -> None:
    lm = load_local(tiny_llama_folder)
    lm.tokenizer.pad_token = lm.tokenizer.eos_token
    before = tokenizer_digest(lm.tokenizer)
    lm.tokenizer("a longer text", padding=True, truncation=True, max_length=2)
    lm.tokenizer.save_pretrained(tmp_path)
    assert '"truncation": null' not in (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    assert tokenizer_digest(type(lm.tokenizer).from_pretrained(tmp_path)) == before


# One BOS


def test_a_text_that_begins_with_bos_gets_no_second_one(with_bos: LanguageModel) -> None:
    plain = with_bos.encode("Q: hot\nA:", True)
    assert plain[:2] == [BOS_ID, *with_bos.encode("Q", False)]
    assert with_bos.encode(f"{BOS}Q: hot\nA:", True) == plain == with_bos.encode(f"{BOS}Q: hot\nA:", False)
    assert Encoder(with_bos, special=True).encode([f"{BOS}Q: hot\nA:"]) == [plain]
    assert with_bos.encode(BOS, True) == [BOS_ID]
    # Two that a text has itself are its own affair.
    assert with_bos.encode(f"{BOS}{BOS}Q", True) == with_bos.encode(f"{BOS}{BOS}Q", False)


def test_only_what_a_tokenizer_adds_is_left_out(tiny_llama: LanguageModel) -> None:
    assert tiny_llama.encode(f"{BOS}{BOS}Q", True) == tiny_llama.encode(f"{BOS}{BOS}Q", False)
    assert tiny_llama.encode(f"{BOS}{BOS}Q", True)[:2] == [BOS_ID, BOS_ID]


def test_two_tokens_before_a_text_are_not_doubled_either(bos_folder: Path, tmp_path: Path) -> None:
    lm = load_local(with_template(tmp_path / "two", bos_folder, f"{BOS} {BOS} $A"))
    assert lm.encode("Q", True)[:3] == [BOS_ID, BOS_ID, *lm.encode("Q", False)]
    assert lm.encode(f"{BOS}{BOS}Q", True) == lm.encode("Q", True)


def test_prompts_answers_generation_and_unrelated_texts_have_one_bos(with_bos: LanguageModel) -> None:
    template = TemplateConfig(query=f"{BOS}Q: {{exA}}\nA:")
    trials = fv.sample_trials({"r": PAIRS}, with_bos, demos=2, fit=2, held_out=2, template=template)
    asked = prompt_of(with_bos, trials.snapshot, trials.fit[0], "zero_shot").token_ids
    assert asked[0] == BOS_ID and BOS_ID not in asked[1:]
    said = generate(with_bos, [trials.prompt("hot"), "Q: hot\nA:"], max_new_tokens=4)
    assert said[0] == said[1]
    texts = encoded_alike(with_bos, [f"{BOS}The weather", "The weather"], True)
    assert texts[0] == texts[1] == with_bos.encode("The weather", True)
