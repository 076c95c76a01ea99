"""Token classes: each token of a prompt is in exactly one span, and a span holds the text that it is named after."""

from pathlib import Path

import pytest
from conftest import load_local
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.config import TemplateConfig, template_preset, template_presets
from fv.data.encoder import Encoder
from fv.data.relations import Pair
from fv.data.rendering import RenderedPrompt, rendered
from fv.data.templates import pieces_of, render
from fv.data.token_classes import spans_of
from fv.data.trial import Draw
from fv.models.language_model import LanguageModel
from fv.models.site import TokenClass

OWN = TemplateConfig(demo="{exB} <- {exA} ({exA})|\n", query="«{exA}»는", target=" {exB}")
TEMPLATES = [*(template_preset(name) for name in template_presets()), OWN]
templates = st.sampled_from(TEMPLATES)
# The tokenizer of SmolLM2 drops control characters, and some bytes of characters from U+40000 on.
characters = st.characters(exclude_categories=["Cs", "Cc"], max_codepoint=0x3FFFF)
texts = st.one_of(
    st.text(characters, min_size=1, max_size=8),
    st.sampled_from(
        ["hot", "Paris is", "사과", "작다", "👩‍👩‍👧", "éé", "日本語", "<|im_start|>", "{exA}", " a ", "\n", "12345"]
    ),
)
pairs = st.builds(Pair, texts, texts)


def prompt(
    lm: LanguageModel, template: TemplateConfig, demos: list[Pair], query: Pair, special: bool
) -> RenderedPrompt:
    draw = Draw.of("t", "q", "fit", query, demos, demos, "permuted")
    return rendered(draw, template, Encoder(lm, special))["clean"]


@given(template=templates, demos=st.lists(pairs, max_size=3), query=texts)
def test_joined_pieces_are_the_prompt(template: TemplateConfig, demos: list[Pair], query: str) -> None:
    pieces = pieces_of(template, demos, query)
    assert "".join(piece.text for piece in pieces) == render(template, demos, query)
    assert all(piece.text for piece in pieces)


@pytest.mark.parametrize("tokenizer", ["tiny_gpt2", "tiny_llama"])
@settings(deadline=None, max_examples=200)
@given(template=templates, demos=st.lists(pairs, max_size=3), query=pairs, data=st.data())
def test_spans_hold_each_token_once_and_decode_to_the_prompt(
    request: pytest.FixtureRequest,
    tokenizer: str,
    template: TemplateConfig,
    demos: list[Pair],
    query: Pair,
    data: st.DataObject,
) -> None:
    lm = request.getfixturevalue(tokenizer)
    special = data.draw(st.booleans())
    own = prompt(lm, template, demos, query, special)
    assert own.token_ids == lm.encode(own.text, special)
    covered = [at for span in own.spans for at in range(span.start, span.stop)]
    assert covered == list(range(len(own.token_ids)))
    ids = [own.token_ids[at] for at in covered]
    assert lm.tokenizer.decode(ids, clean_up_tokenization_spaces=False) == own.text
    by_class = [own.tokens_of(token_class) for token_class in TokenClass]
    assert sorted(at for positions in by_class for at in positions) == covered
    assert own.tokens_of(TokenClass.last) == covered[-1:]


words = st.sampled_from(["hot", "cold", "Paris", "사과", "작다", "apple", "日本語", "éclair", "new"])


@pytest.mark.parametrize("tokenizer", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("name", ["qa", "arrow", "input_output", "korean"])
@settings(deadline=None, max_examples=10)
@given(demos=st.lists(st.builds(Pair, words, words), min_size=1, max_size=3), query=words)
def test_each_span_decodes_to_the_text_that_it_is_named_after(
    request: pytest.FixtureRequest, tokenizer: str, name: str, demos: list[Pair], query: str
) -> None:
    lm = request.getfixturevalue(tokenizer)
    own = prompt(lm, template_preset(name), demos, Pair(query, "x"), special=False)

    def decoded(token_class: TokenClass) -> list[str]:
        spans = [span for span in own.spans if span.token_class is token_class]
        return [lm.tokenizer.decode(own.token_ids[span.start : span.stop]) for span in spans]

    assert [text.strip() for text in decoded(TokenClass.demo_input)] == [pair.exA for pair in demos]
    assert [text.strip() for text in decoded(TokenClass.demo_output)] == [pair.exB for pair in demos]
    assert [text.strip() for text in decoded(TokenClass.query)] == [query]
    assert set("".join(decoded(TokenClass.delimiter))) == {"\n"}
    assert len(decoded(TokenClass.delimiter)) == len(demos)


def test_classes_of_a_known_prompt(tiny_llama: LanguageModel) -> None:
    own = prompt(tiny_llama, TemplateConfig(), [Pair("hot", "cold")], Pair("up", "down"), special=False)
    shown = [
        (span.token_class.value, tiny_llama.tokenizer.decode(own.token_ids[span.start : span.stop]))
        for span in own.spans
    ]
    assert shown == [
        ("template", "Q:"),
        ("demo_input", " hot"),
        ("template", "\nA:"),
        ("demo_output", " cold"),
        ("delimiter", "\n\n"),
        ("template", "Q:"),
        ("query", " up"),
        ("template", "\nA"),
        ("last", ":"),
    ]


def test_the_last_token_of_a_bare_query_is_last_and_not_query(tiny_llama: LanguageModel) -> None:
    own = prompt(tiny_llama, template_preset("bare"), [], Pair("hot", "cold"), special=False)
    assert [span.token_class for span in own.spans] == [TokenClass.last]


def test_a_token_before_the_text_is_special(bos_folder: Path) -> None:
    with_bos = load_local(bos_folder)
    own = prompt(with_bos, TemplateConfig(), [], Pair("hot", "cold"), special=True)
    assert own.token_ids == with_bos.encode(own.text, True)
    assert own.tokens_of(TokenClass.special) == [0]
    assert own.spans[1].token_class is TokenClass.template


def test_an_empty_prompt_has_no_spans() -> None:
    assert spans_of([], []) == []


def test_rendering_is_pure(tiny_llama: LanguageModel) -> None:
    draw = Draw.of("t", "q", "fit", Pair("up", "down"), [Pair("hot", "cold")], [Pair("hot", "up")], "permuted")
    encoder = Encoder(tiny_llama, special=False)
    first, again = (rendered(draw, TemplateConfig(), encoder) for _ in range(2))
    assert first == again and list(first) == ["clean", "corrupted", "zero_shot"]
    assert all(first[kind].spans == again[kind].spans for kind in first)
