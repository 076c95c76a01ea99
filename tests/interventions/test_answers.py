"""Rows of edited last tokens with answers behind them, against one full forward an edit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from answer_oracle import oracle
from families import FAMILIES, tiny, tiny_editable
from sweep_checks import TOLERANCE, all_heads, prompts_of, values_of, vectors_of

from fv.interventions.answers import score_answers
from fv.interventions.edits import AddVector, LastTokenEdit, ReplaceResidual, SetHeads
from fv.interventions.engine import Head
from fv.interventions.engines import make_engine
from fv.interventions.prompt_cache import PromptCache
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt


def edits_of(lm: LanguageModel) -> list[LastTokenEdit]:
    one, two = vectors_of(lm)
    values = values_of(lm)
    return [
        None,
        AddVector(0, one),
        ReplaceResidual(1, two),
        ReplaceResidual(1, two, 0.3),
        AddVector(lm.n_layers - 1, two),
        AddVector(1, one),
        SetHeads((Head(0, 1), Head(2, 0), Head(2, 3)), values),
        SetHeads(tuple(all_heads(lm)), values),
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_behind_a_cached_prefix_equal_full_forwards(family: str) -> None:
    lm = tiny(family)
    behind, edits = [[5, 11, 3], [40, 2, 8]], edits_of(lm)
    for length in (1, 9):
        prompts = [list(p.token_ids) for p in prompts_of(lm, [length, length])]
        with torch.no_grad():
            rows = PromptCache(lm, prompts).rows(edits, torch.tensor(behind))
            found = lm.logits(lm.final_norm(rows.flatten(0, 2)), slice(0, lm.vocabulary)).view(*rows.shape[:3], -1)
            for ids, after, own in zip(prompts, behind, found, strict=True):
                due = torch.stack([oracle(lm, ids, after, edit) for edit in edits])
                torch.testing.assert_close(own, due, rtol=0, atol=5e-5)
        # Every edit acts at the last prompt token.
        assert (found[:, 1:, 0] - found[:, :1, 0]).abs().amax(-1).min() > 1e-3


def asked_of(lm: LanguageModel) -> list[Prompt]:
    """Prompts of several lengths with answers of one to three tokens."""
    prompts = prompts_of(lm, [4, 7, 4, 1, 7, 4])
    answers = [(9,), (31, 8), (700, 44, 5), (12,), (3, 3), (81, 2)]
    return [Prompt(p.token_ids, a, (50, 60, 70)) for p, a in zip(prompts, answers, strict=True)]


ENGINES = [("naive", 2), ("expanded", 2), ("expanded", 30), ("expanded", 4096), *(("auto", n) for n in (2, 30, 4096))]


@pytest.mark.parametrize("mode,max_rows", ENGINES)
def test_scores_are_those_of_full_forwards(tiny_lm: LanguageModel, mode: str, max_rows: int) -> None:
    asked, edits = asked_of(tiny_lm), edits_of(tiny_lm)
    done: list[int] = []
    scores = score_answers(make_engine(tiny_lm, mode, max_rows), asked, edits, "\n\n", done.append)
    assert sum(done) == len(asked) * len(edits)
    for i, prompt in enumerate(asked):
        for j, edit in enumerate(edits):
            with torch.no_grad():
                logits = oracle(tiny_lm, list(prompt.token_ids), list(prompt.answer), edit)
            logprobs = logits.double().log_softmax(-1).numpy()
            target = prompt.answer[0]
            assert scores.logprob[i, j] == pytest.approx(logprobs[0, target], abs=TOLERANCE)
            assert abs(scores.rank[i, j] - (logits[0] >= logits[0, target]).sum().item() + 1) <= 3
            best_wrong = max(float(logits[0, token]) for token in prompt.wrong)
            assert scores.logit_difference[i, j] == pytest.approx(float(logits[0, target]) - best_wrong, abs=5e-5)
            whole = sum(logprobs[at, token] for at, token in enumerate(prompt.answer))
            assert scores.answer_logprob[i, j] == pytest.approx(whole, abs=3 * TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_says_and_rates_answers_as_full_forwards_do(family: str) -> None:
    lm = tiny(family)
    edits, fast, naive = edits_of(lm), make_engine(lm, "auto", 200), make_engine(lm, "naive", 2)
    said = naive.answers([Prompt(p.token_ids, (1,)) for p in prompts_of(lm, [4, 7, 4, 1, 7])], [None])
    prompts = prompts_of(lm, [4, 7, 4, 1, 7])
    # Answers that the unedited model says for a token or two, and others.
    firsts = [int(read.likeliest[0, 0]) for read in said]
    answers = [(firsts[0],), (firsts[1], 8), (70, 44, 5), (12,), (firsts[4],)]
    asked = [Prompt(p.token_ids, a, (50, 60, 70)) for p, a in zip(prompts, answers, strict=True)]
    for found, due in zip(fast.answers(asked, edits), naive.answers(asked, edits), strict=True):
        torch.testing.assert_close(found.scores.logprob, due.scores.logprob, rtol=0, atol=5e-5)
        torch.testing.assert_close(found.logit_difference, due.logit_difference, rtol=0, atol=5e-5)
        assert (found.scores.rank - due.scores.rank).abs().max() <= 3
        assert torch.equal(found.likeliest, due.likeliest)
    assert any((read.likeliest[:, -1] >= 0).any() for read in fast.answers(asked, edits))
    torch.testing.assert_close(
        fast.target_logprobs(asked, edits), naive.target_logprobs(asked, edits), rtol=0, atol=5e-5
    )
    torch.testing.assert_close(fast.divergences(asked, edits), naive.divergences(asked, edits), rtol=1e-3, atol=1e-6)
    others = prompts_of(lm, [6, 3, 9, 2, 5])
    from_others = [engine.divergences(asked, edits, others) for engine in (fast, naive)]
    torch.testing.assert_close(*from_others, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("mode", ["auto", "expanded"])
def test_prompts_that_are_kept_run_once_and_give_the_same_bits(tiny_llama: LanguageModel, mode: str) -> None:
    engine, asked, edits = make_engine(tiny_llama, mode, 64), asked_of(tiny_llama), edits_of(tiny_llama)
    engine.target_logprobs(asked, edits)  # the model's masks are looked at once
    embedded: list[int] = []
    handle = tiny_llama.model.base_model.embed_tokens.register_forward_hook(
        lambda _module, args, _output: embedded.append(args[0].numel())
    )
    try:
        alone = [engine.target_logprobs(asked, edits) for _ in range(2)]
        each = sum(embedded) // 2
        embedded.clear()
        with engine.keeping(2**30):
            kept = [engine.target_logprobs(asked, edits) for _ in range(2)]
            with_keeping = sum(embedded)
            embedded.clear()
        with engine.keeping(1):
            engine.target_logprobs(asked, edits)
            engine.target_logprobs(asked, edits)
        assert sum(embedded) == 2 * each > with_keeping
    finally:
        handle.remove()
    assert all(torch.equal(one, alone[0]) for one in (*alone, *kept))


def greedy(lm: LanguageModel, ids: list[int], n_tokens: int) -> list[int]:
    """What greedy decoding says, by transformers' own `generate`."""
    with torch.no_grad():
        said = lm.model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            do_sample=False,
            max_new_tokens=n_tokens,
            min_new_tokens=n_tokens,
            pad_token_id=0,
        )
    return said[0, len(ids) :].tolist()


@pytest.mark.slow
def test_an_exact_match_is_what_greedy_decoding_says_and_ends(smollm2: LanguageModel) -> None:
    texts = {
        "Q: walk\nA: walked\n\nQ: jump\nA: jumped\n\nQ: open\nA:": [" opened", " open", " opened up"],
    }
    matched = set()
    for text, answers in texts.items():
        ids = smollm2.encode(text, False)
        said = smollm2.tokenizer.decode(greedy(smollm2, ids, 6))
        for answer in answers:
            prompt = Prompt(tuple(ids), tuple(smollm2.encode(answer, False)), ())
            scores = score_answers(make_engine(smollm2, "auto", 4096), [prompt], [None], "\n\n")
            assert scores.exact_match[0, 0] == said.startswith(answer + "\n")
            # The text goes on as long as both agree, and ends with the first token that is not the answer's.
            assert said.startswith(scores.text[0, 0].rstrip("\n")) and len(scores.text[0, 0]) > 0
            assert np.isnan(scores.logit_difference[0, 0])
            matched |= {(answer, bool(scores.exact_match[0, 0]))}
    assert (" opened", True) in matched and (" opened up", False) in matched


def test_the_end_of_text_ends_an_answer_too(tiny_llama: LanguageModel) -> None:
    with torch.no_grad():
        first = int(oracle(tiny_llama, [5, 17, 300], [], None)[0].argmax())
        second = int(oracle(tiny_llama, [5, 17, 300], [first], None)[1].argmax())
    asked = Prompt((5, 17, 300), (first,), ())
    assert not score_answers(make_engine(tiny_llama, "auto", 64), [asked], [None], "\0").exact_match[0, 0]
    model = tiny_llama.model
    before = model.generation_config.eos_token_id
    try:
        model.generation_config.eos_token_id = second
        assert score_answers(make_engine(replace(tiny_llama), "auto", 64), [asked], [None], "\0").exact_match[0, 0]
    finally:
        model.generation_config.eos_token_id = before


@pytest.mark.parametrize("mode", ["auto", "expanded", "naive"])
def test_where_all_tokens_tie_no_answer_is_right(mode: str) -> None:
    lm = tiny_editable("llama")
    lm.unembedding.weight[:] = 0
    ending = lm.tokenizer.decode(0)  # the first of equal ones, which greedy decoding says
    found = score_answers(make_engine(lm, mode, 64), [Prompt((5, 17), (0, 0), (3, 4))], [None], ending)
    assert found.tied.all() and not found.exact_match.any()
    assert (found.rank == lm.vocabulary - 1).all() and (found.logit_difference == 0).all()


@pytest.mark.parametrize("tied_at", [0, 1, 2])
def test_an_answer_with_a_tie_on_its_way_is_no_exact_match(tied_at: int) -> None:
    lm = tiny_editable("llama")
    ids = [5, 17, 30]
    said = [int(oracle(lm, ids, [], None)[0].argmax())]
    said.append(int(oracle(lm, ids, said, None)[-1].argmax()))
    said.append(int(oracle(lm, ids, said, None)[-1].argmax()))
    ending = lm.tokenizer.decode(said[2])
    asked = Prompt(tuple(ids), tuple(said[:2]))
    engine = make_engine(lm, "naive", 64)
    alone = score_answers(engine, [asked], [None], ending)
    assert alone.exact_match.all() and not alone.tied.any()
    assert len({*said}) == 3 and not {*said} & {*ids}
    twin = next(token for token in range(90, 3, -1) if token not in (*ids, *said))
    lm.unembedding.weight[twin] = lm.unembedding.weight[said[tied_at]]
    found = score_answers(engine, [asked], [None], ending)
    assert not found.exact_match.any()
    assert found.tied.all() == (found.rank[0, 0] > 0) == (tied_at == 0)


@pytest.mark.parametrize("mode", ["auto", "expanded", "naive"])
def test_divergence_is_zero_without_an_edit_and_as_defined_with_one(tiny_lm: LanguageModel, mode: str) -> None:
    prompts = prompts_of(tiny_lm, [3, 8, 3])
    texts, edits = [list(p.token_ids) for p in prompts], edits_of(tiny_lm)
    costs = make_engine(tiny_lm, mode, 40).divergences(prompts, edits).numpy()
    assert costs.shape == (3, len(edits))
    assert costs[:, 0] == pytest.approx(0, abs=1e-9)
    for text, row in zip(texts, costs, strict=True):
        with torch.no_grad():
            p, q = (oracle(tiny_lm, text, [], edit)[0].double().log_softmax(-1) for edit in (None, edits[1]))
        assert row[1] == pytest.approx(float((p.exp() * (p - q)).sum()), rel=1e-3)
    assert costs[:, 1:].min() > 1e-4


@pytest.mark.parametrize("mode", ["naive", "auto", "expanded"])
def test_a_divergence_from_other_prompts_is_that_of_their_next_tokens(tiny_llama: LanguageModel, mode: str) -> None:
    asked, others = prompts_of(tiny_llama, [4, 7, 5]), prompts_of(tiny_llama, [9, 3, 6])

    def next_token(prompt: Prompt) -> torch.Tensor:
        with torch.no_grad():
            logits = tiny_llama.model(input_ids=torch.tensor([prompt.token_ids])).logits[0, -1]
        return logits.double().log_softmax(-1)

    due = [(next_token(p).exp() * (next_token(p) - next_token(q))).sum() for p, q in zip(others, asked, strict=True)]
    found = make_engine(tiny_llama, mode, 40).divergences(asked, [None], others)
    torch.testing.assert_close(found[:, 0], torch.stack(due), rtol=1e-4, atol=1e-6)
