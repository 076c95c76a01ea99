"""What `data sample` shows: the prompt to be read, and the answer's tokens as the model has them."""

import dataclasses
import re
import string
from pathlib import Path

import pytest
from conftest import DEFAULT_CSV, MakeConfig
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fv.data.marked_prompt import mark_tokens
from fv.models.language_model import LanguageModel
from fv.steps.data import run_sample


@pytest.fixture(scope="module")
def byte_fallback(tiny_gpt2: LanguageModel) -> LanguageModel:
    """A tokenizer that has ASCII and spells everything else in bytes, as those of Llama 2 and Gemma do."""
    known = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", "\n", *string.printable[:94]]
    model = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(known)}, merges=[], byte_fallback=True))
    model.normalizer = normalizers.Replace(" ", "▁")
    model.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return dataclasses.replace(tiny_gpt2, tokenizer=PreTrainedTokenizerFast(tokenizer_object=model))


@pytest.mark.parametrize("tokenizer", ["tiny_gpt2", "tiny_llama", "byte_fallback"])
@pytest.mark.parametrize("answer", [" 과학자", " 서울", " naïve 한국 x", " Ünï", " plain words", " 🙂"])
def test_an_answers_tokens_are_bytes_where_they_are_parts_of_a_character(
    tokenizer: str, answer: str, request: pytest.FixtureRequest
) -> None:
    lm = request.getfixturevalue(tokenizer)
    prompt = "Q: 물\nA: 水\n\nQ: scientist\nA:"
    marked, count = mark_tokens(lm, prompt, answer, False)
    before, _, behind = marked.partition("[")
    assert before.replace("|", "").replace("…", "").replace("⏎", "") == prompt
    shown = behind.replace("]", "").split("|")
    ids = lm.encode(prompt + answer, False)[count:]
    for piece, token in zip(shown, ids, strict=True):
        assert ("\\x" in piece) == ("\ufffd" in lm.tokenizer.decode([token]))
    # Nothing is lost and nothing shown twice: together they are the answer's bytes.
    as_bytes = [re.sub(rb"\\x(..)", lambda found: bytes([int(found[1], 16)]), piece.encode()) for piece in shown]
    assert b"".join(as_bytes).decode() == answer


def test_the_scored_token_of_a_korean_answer_is_the_byte_that_all_of_them_share(tiny_llama: LanguageModel) -> None:
    for answer in (" 과학자", " 구름"):
        assert mark_tokens(tiny_llama, "Q: x\nA:", answer, False)[0].partition("[")[2].startswith(" \\xea]|")


def test_an_answer_that_the_tokenizer_does_not_know_is_its_unknown_token(tiny_gpt2: LanguageModel) -> None:
    model = Tokenizer(models.WordLevel({"<unk>": 0, "Q": 1}, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<unk>")
    assert mark_tokens(dataclasses.replace(tiny_gpt2, tokenizer=tokenizer), "Q", " 서울", False)[0] == "Q|[<unk>]"


def test_a_sample_of_korean_answers_names_the_answer_and_scores_a_byte(
    make_config: MakeConfig, tiny_llama_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    korean = ["data.qids=[english_korean]", "data/template=korean", f"data.relation_csv_path={DEFAULT_CSV}"]
    run_sample(make_config("model=local", f"model.path={tiny_llama_folder}", *korean))
    printed = capsys.readouterr().out
    scored = re.findall(r"\[([^]]*)\]", printed.partition("──")[2])
    assert len(scored) == 3
    assert all(re.fullmatch(r" \\x[0-9a-f]{2}", token) for token in scored)
    assert len(re.findall(r"prompt, \d+ tokens, answer ' [가-힣]+'", printed)) == 3
