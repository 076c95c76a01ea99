"""Models that do not fit, or whose files are not whole: each is told by its cause and what mends it."""

import importlib.util
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import tiny, tiny_editable, tiny_tokenizer
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    PreTrainedModel,
)

import fv
from fv.errors import ModelError
from fv.interventions.loading import load_model
from fv.interventions.wrapping import wrap

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def copied(source: Path, target: Path, without: tuple[str, ...] = ()) -> Path:
    return Path(shutil.copytree(source, target, ignore=shutil.ignore_patterns(*without)))


@pytest.mark.parametrize("family", ["tiny_llama_folder", "tiny_gpt2_folder"])
def test_a_folder_without_a_tokenizer_is_told_what_it_lacks(
    family: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = copied(request.getfixturevalue(family), tmp_path / "model", ("tokenizer*", "vocab*", "merges*"))
    with pytest.raises(ModelError, match=r"model has no tokenizer, .*tokenizer\.json.*with save_pretrained\.$"):
        load_model(folder, selfcheck=False)


def test_pickled_weights_say_how_they_are_read(tiny_llama_folder: Path, tmp_path: Path) -> None:
    folder = copied(tiny_llama_folder, tmp_path / "model", ("*.safetensors",))
    with pytest.raises(ModelError, match=r"model has no weights \(\*\.safetensors\)"):
        load_model(folder, selfcheck=False)
    torch.save(load_file(tiny_llama_folder / "model.safetensors"), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"as pickles alone \(pytorch_model\.bin\).*allow_pickle=true reads them"):
        load_model(folder, selfcheck=False)
    assert load_model(folder, selfcheck=False, allow_pickle=True).n_layers == 3


def dynamically_quantised() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(tiny("llama").model, {torch.nn.Linear}, dtype=torch.qint8)


def test_weights_packed_by_torch_ao_are_refused_by_their_kind() -> None:
    with pytest.raises(ModelError, match=r"quantised by torch\.ao \(model\.layers\.0\.self_attn\.q_proj\).*before it"):
        wrap(dynamically_quantised(), tiny_tokenizer())


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="quantises with bitsandbytes")
def test_weights_in_eight_bits_are_refused_because_rows_depend_on_one_another(
    tiny_llama_folder: Path, tmp_path: Path
) -> None:
    folder = copied(tiny_llama_folder, tmp_path / "model")
    settings = BitsAndBytesConfig(load_in_8bit=True)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, quantization_config=settings)
    attempts: list[Callable[[], Any]] = [lambda: wrap(model, tiny_tokenizer()), lambda: load_model(tmp_path / "saved")]
    model.save_pretrained(tmp_path / "saved")
    for name in TOKENIZER:
        shutil.copy(folder / name, tmp_path / "saved" / name)
    for attempt in attempts:
        with pytest.raises(ModelError, match=r"LLM\.int8 .*outliers of all rows.*unquantised, or with quant=nf4"):
            attempt()


def test_a_token_that_the_model_does_not_embed_is_named_with_what_gives_it_a_row() -> None:
    lm = tiny_editable("llama")
    lm.tokenizer.add_tokens(["<mine>"])
    said = r"token '<mine>' \(id 97\), and the model embeds 97 tokens.*resize_token_embeddings"
    with pytest.raises(ModelError, match=said):
        lm.generate("hot <mine>", 2)
    assert lm.generate("hot", 2) is not None  # it is in the way of no other text
    pairs = [(f"{a}{b}", "<mine>") for a in "abcd" for b in "efg"]
    with pytest.raises(ModelError, match=said):
        lm = fv.wrap(lm.model, lm.tokenizer, selfcheck=False)
        fv.indirect_effects(lm, fv.sample_trials({"q": [*pairs, ("x", "y")]}, lm, demos=2, fit=3, held_out=1))


def test_a_multimodal_wrapper_runs_with_a_spec_file(tmp_path: Path, tiny_llama_folder: Path) -> None:
    text = {
        "vocab_size": 49152,
        "hidden_size": 40,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "query_pre_attn_scalar": 12,
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "max_position_embeddings": 256,
        "initializer_range": 0.15,
    }
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(text_config=text, vision_config={**vision, "image_size": 28, "patch_size": 14})
    torch.manual_seed(0)
    folder = tmp_path / "wrapper"
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    for name in TOKENIZER:
        shutil.copy(tiny_llama_folder / name, folder / name)
    spec = tmp_path / "wrapped.yaml"
    spec.write_text(
        "name: gemma3_wrapped\nmodel_types: [gemma3]\nblocks: model.language_model.layers\nout_proj: self_attn.o_proj\n"
        "final_norm: model.language_model.norm\npost_norm: post_attention_layernorm\n"
    )
    lm = load_model(folder, spec_file=str(spec))
    assert (lm.n_layers, lm.n_heads, lm.head_dim, lm.max_tokens) == (3, 4, 12, 256)
    assert (
        max(lm.selfcheck["sweep_vs_naive"], lm.selfcheck["past_windows_vs_naive"], lm.selfcheck["logits_error"]) < 1e-4
    )
