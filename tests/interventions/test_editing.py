"""Edits in whatever a user runs have the logits of plain hooks on each prompt alone."""

from typing import Any

import pytest
import torch
from edit_makers import (
    KINDS,
    POSITIONS,
    TOLERANCE,
    edits_of,
    endless,
    generated,
    padded,
    random_prompts,
    with_position_ids,
)
from edit_oracle import edited_logits, positions_meant
from hypothesis import given
from hypothesis import strategies as st
from sweep_checks import few, seeds
from transformers import DynamicCache

from fv.interventions.editable import EditableModel
from fv.interventions.edits import Edit

# Shared prefix: sequential, parallel, post-norm, scaled. Expanded: tuples, windows, ALiBi, sinks.
FAMILIES = ["gpt2", "llama", "gpt_neox", "olmo2", "granite", "gptj", "gemma2", "bloom", "gpt_oss"]
lengths = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def llama() -> EditableModel:
    return endless("llama")


def assert_steps_are_the_oracles(
    lm: EditableModel, prompts: list[list[int]], found: Any, edits: list[Edit], positions: str
) -> None:
    """Each step's logits are those of plain hooks on the row alone, with what was generated so far."""
    n_columns = found.sequences.shape[1] - len(found.logits)
    each = len(found.sequences) // len(prompts)
    for row, sequence in enumerate(found.sequences.tolist()):
        prompt, new = prompts[row // each], sequence[n_columns:]
        for step, logits in enumerate(found.logits):
            text = prompt + new[:step]
            where = positions_meant(positions, len(prompt), len(text))
            torch.testing.assert_close(logits[row], edited_logits(lm, text, edits, where)[-1], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_each_step_of_generate_has_the_logits_of_plain_hooks(
    family: str, positions: str, kind: str, use_cache: bool
) -> None:
    lm = endless(family)
    prompts, edits = random_prompts(lm, [5, 2, 7]), edits_of(lm, kind)
    with lm.edited(edits, positions):
        found = generated(lm, padded(prompts, "left"), use_cache=use_cache)
    assert_steps_are_the_oracles(lm, prompts, found, edits, positions)


@few
@given(sizes=lengths, seed=seeds, use_cache=st.booleans(), positions=st.sampled_from(POSITIONS), data=st.data())
def test_prompts_of_any_lengths_are_edited_as_each_alone(
    sizes: list[int], seed: int, use_cache: bool, positions: str, data: Any
) -> None:
    lm = endless(data.draw(st.sampled_from(FAMILIES)))
    prompts, edits = random_prompts(lm, sizes, seed), edits_of(lm, "several", seed)
    with lm.edited(edits, positions):
        found = generated(lm, padded(prompts, "left"), 3, use_cache=use_cache)
    assert_steps_are_the_oracles(lm, prompts, found, edits, positions)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_samples_and_several_sequences_of_a_prompt_are_edited(
    llama: EditableModel, positions: str, use_cache: bool
) -> None:
    prompts, edits = random_prompts(llama, [4, 6]), edits_of(llama, "several")
    torch.manual_seed(3)
    with llama.edited(edits, positions):
        batch = padded(prompts, "left")
        found = generated(llama, batch, do_sample=True, num_return_sequences=3, use_cache=use_cache)
    assert len({tuple(row) for row in found.sequences.tolist()}) > 2
    assert_steps_are_the_oracles(llama, prompts, found, edits, positions)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_beams_are_scored_as_plain_hooks_score_their_tokens(
    llama: EditableModel, positions: str, use_cache: bool
) -> None:
    prompts, edits, n_new = random_prompts(llama, [4, 6]), edits_of(llama, "several"), 4
    how = {"num_beams": 3, "num_return_sequences": 2, "output_scores": True, "length_penalty": 0.0}
    with llama.edited(edits, positions):
        found = generated(llama, padded(prompts, "left"), n_new, use_cache=use_cache, **how)
    for row, sequence in enumerate(found.sequences.tolist()):
        prompt, new = prompts[row // 2], sequence[-n_new:]
        total = 0.0
        for step in range(n_new):
            text = prompt + new[:step]
            where = positions_meant(positions, len(prompt), len(text))
            total += float(edited_logits(llama, text, edits, where)[-1].log_softmax(-1)[new[step]])
        assert float(found.sequences_scores[row]) == pytest.approx(total, abs=5e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("positions", ["last_prompt", "all"])
@pytest.mark.parametrize("kind", ["several", "heads"])
def test_a_padded_forward_has_the_logits_of_plain_hooks(family: str, side: str, positions: str, kind: str) -> None:
    lm = endless(family)
    prompts, edits = random_prompts(lm, [5, 1, 7]), edits_of(lm, kind)
    batch = padded(prompts, side)
    with lm.edited(edits, positions), torch.no_grad():
        logits = lm.model(**(batch if family == "bloom" else with_position_ids(batch))).logits
    for prompt, found, real in zip(prompts, logits, batch["attention_mask"].bool(), strict=True):
        due = edited_logits(lm, prompt, edits, positions_meant(positions, len(prompt), len(prompt)))
        torch.testing.assert_close(found[real], due, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("own_cache", [True, False])
def test_tokens_on_the_cache_of_a_prompt_are_generated_ones(
    llama: EditableModel, positions: str, own_cache: bool
) -> None:
    (prompt,), edits = random_prompts(llama, [5]), edits_of(llama, "several")
    text, logits = list(prompt), []
    with llama.edited(edits, positions), torch.no_grad():
        cache = DynamicCache() if own_cache else None
        output = llama.model(torch.tensor([prompt]), past_key_values=cache, use_cache=True)
        for token in (11, 50, 7):
            output = llama.model(torch.tensor([[token]]), past_key_values=output.past_key_values)
            logits.append(output.logits[0, -1])
    for token, found in zip((11, 50, 7), logits, strict=True):
        text.append(token)
        due = edited_logits(llama, text, edits, positions_meant(positions, len(prompt), len(text)))[-1]
        torch.testing.assert_close(found, due, rtol=0, atol=TOLERANCE)


def test_a_prompt_given_as_embeddings_is_edited(llama: EditableModel) -> None:
    prompts, edits = random_prompts(llama, [5, 2]), edits_of(llama, "several")
    batch = padded(prompts, "left")
    embedded = {
        "inputs_embeds": llama.model.get_input_embeddings()(batch["input_ids"]),
        "attention_mask": batch["attention_mask"],
    }
    with llama.edited(edits, "generated"):
        found = generated(llama, embedded)
    assert_steps_are_the_oracles(llama, prompts, found, edits, "generated")


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize(("kind", "use_cache"), [*((kind, True) for kind in KINDS), ("several", False)])
def test_the_embedded_model_is_edited_as_by_plain_hooks(
    smollm2: EditableModel, kind: str, use_cache: bool, positions: str
) -> None:
    prompts = [smollm2.encode(text, False) for text in ("Q: hot\nA:", "Q: the capital of Italy\nA:")]
    # In the middle: what all positions have in the first blocks decides all others, and so does its rounding.
    edits = edits_of(smollm2, kind, first=15)
    with smollm2.edited(edits, positions):
        found = generated(smollm2, padded(prompts, "left"), 2, use_cache=use_cache)
    for row, logits in enumerate(found.logits[-1]):
        text = prompts[row] + found.sequences[row, -2:-1].tolist()
        where = positions_meant(positions, len(prompts[row]), len(text))
        due = edited_logits(smollm2, text, edits, where)[-1]
        assert (logits - due).abs().max() < TOLERANCE * due.abs().max()
