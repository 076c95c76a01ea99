"""A model in memory: the numbers of a loaded one to the bit, its owner's state kept, and what is refused."""

import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import load_local
from families import tiny, tiny_editable, tiny_tokenizer
from sweep_checks import all_cells, all_heads, for_each, prompts_of, values_of, vectors_of
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    LlamaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from fv.errors import ConfigError, FvError, ModelError
from fv.heads.activations import mean_over_prompts
from fv.interventions.answers import score_answers
from fv.interventions.edits import AddVector
from fv.interventions.engine import Engine, PatchScores, TargetScores
from fv.interventions.engines import make_engine
from fv.interventions.wrapping import wrap
from fv.models.language_model import LanguageModel
from fv.vectors.function_vector import vector_of_heads

FAMILIES = ["gpt2", "falcon", "mixtral", "gemma2", "gpt_neox", "olmo2", "bloom"]


def owned(lm: LanguageModel) -> Any:
    """A copy of a model as its owner may have it: training, with gradients, and with another attention."""
    model = deepcopy(lm.model).train().requires_grad_(True)
    model.config._attn_implementation = "sdpa" if model._supports_sdpa else "eager"
    return model


def assert_equal_bits(found: Any, due: Any) -> None:
    """Every tensor in two results."""
    if isinstance(found, torch.Tensor):
        assert torch.equal(found, due) and not found.requires_grad
    elif isinstance(found, TargetScores):
        assert_equal_bits((found.logprob, found.rank), (due.logprob, due.rank))
    else:
        for one, other in zip(found, due, strict=True):
            assert_equal_bits(one, other)


def results(lm: LanguageModel, engine: Engine) -> tuple[PatchScores, tuple[TargetScores, TargetScores], Tensor]:
    """Effects, injections and answers."""
    prompts = prompts_of(lm, [3, 7, 7])
    patched = engine.patch_heads(prompts, values_of(lm), all_heads(lm))
    injected = engine.inject(prompts, for_each(prompts, vectors_of(lm)), all_cells(lm))
    answers = score_answers(engine, prompts, [None, AddVector(1, vectors_of(lm)[0])], "")
    return patched, injected, torch.from_numpy(answers.answer_logprob)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", ["auto", "expanded", "naive"])
def test_a_wrapped_model_gives_a_loaded_models_effects_to_the_bit(family: str, mode: str) -> None:
    loaded = tiny_editable(family)
    wrapped = wrap(owned(loaded), tiny_tokenizer(), selfcheck=False)
    assert_equal_bits(results(wrapped, make_engine(wrapped, mode, 64)), results(loaded, make_engine(loaded, mode, 64)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrapped_models_vector_is_the_loaded_models_and_has_no_gradient(family: str) -> None:
    loaded = tiny(family)
    wrapped = wrap(owned(loaded), tiny_tokenizer(), selfcheck=False)
    mean = mean_over_prompts(values_of(loaded)[None])
    assert_equal_bits(*(vector_of_heads(lm, mean, all_heads(lm)[::3]) for lm in (wrapped, loaded)))


def test_a_folder_wrapped_is_the_folder_loaded(tiny_llama_folder: Path) -> None:
    loaded = load_local(tiny_llama_folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_folder)
    wrapped = wrap(model, AutoTokenizer.from_pretrained(tiny_llama_folder))
    assert model.config._attn_implementation == "sdpa"
    assert wrapped.selfcheck == loaded.selfcheck
    assert wrapped.fingerprint["tokenizer_sha256"] == loaded.fingerprint["tokenizer_sha256"]
    assert_equal_bits(
        results(wrapped, make_engine(wrapped, "auto", 64)), results(loaded, make_engine(loaded, "auto", 64))
    )


def test_the_embedded_model_wrapped_is_the_loaded_one(smollm2: LanguageModel, smollm2_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(smollm2_folder).train()
    wrapped = wrap(model, smollm2.tokenizer, selfcheck=False)
    heads, prompts = all_heads(smollm2)[::40], prompts_of(smollm2, [9])
    patched = [make_engine(lm, "auto", 64).patch_heads(prompts, values_of(lm), heads) for lm in (wrapped, smollm2)]
    assert_equal_bits(*patched)
    assert model.training and model.config._attn_implementation == "sdpa"


def test_wrapping_and_proving_leave_a_model_as_it_was() -> None:
    model, tokenizer = owned(tiny("gpt2")), tiny_tokenizer()
    model.generation_config.temperature = 0.7
    handle = model.transformer.h[1].register_forward_hook(lambda *_: None)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    config, generation = deepcopy(model.config), deepcopy(model.generation_config)
    lm = wrap(model, tokenizer)
    assert lm.selfcheck["sweep_vs_naive"] < 2e-5
    assert lm.model is model and lm.tokenizer is tokenizer
    assert model.config == config and model.generation_config == generation
    assert model.config._attn_implementation == "sdpa"
    assert all(module.training for module in model.modules()) and all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    hooks = [id_ for module in model.modules() for id_ in (*module._forward_hooks, *module._forward_pre_hooks)]
    assert hooks == [handle.id]


def test_the_fingerprint_is_of_the_weights_and_the_tokenizer() -> None:
    model, same, other = (tiny("llama").model for _ in range(3))
    with torch.no_grad():
        other.model.norm.weight[0] += 1e-6
    first, again, changed = (wrap(m, tiny_tokenizer(), selfcheck=False).fingerprint for m in (model, same, other))
    assert first == again and (first["source"], first["class"]) == ("in memory", "LlamaForCausalLM")
    assert {key for key in first if first[key] != changed[key]} == {"weights_sha256"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_number_format_is_proved_in_its_own(dtype: torch.dtype) -> None:
    lm = wrap(tiny("mixtral").model.to(dtype), tiny_tokenizer())
    assert lm.dtype is dtype and lm.selfcheck["identity_bit_equal"]


@pytest.mark.parametrize(
    ("path", "name"),
    [("", "llama"), ("/models/mine-7b", "mine-7b"), ("owner/Mine-1.7B", "Mine-1.7B"), ("a/ü", "llama")],
)
def test_a_model_is_called_what_it_was_loaded_from(path: str, name: str) -> None:
    model = tiny("llama").model
    model.config.name_or_path = path
    assert wrap(model, tiny_tokenizer(), selfcheck=False).name == name


def test_a_name_and_a_family_can_be_given(tmp_path: Path) -> None:
    model, file = tiny("llama").model, tmp_path / "mine.yaml"
    file.write_text(
        "{name: mine, model_types: [x], blocks: model.layers, out_proj: self_attn.o_proj, final_norm: model.norm}"
    )
    lm = wrap(model, tiny_tokenizer(), name="mine", spec="mistral")
    assert (lm.name, lm.spec.name) == ("mine", "mistral")
    lm = wrap(model, tiny_tokenizer(), spec_file=str(file))
    assert lm.spec.name == "mine" and "spec_sha256" in lm.fingerprint


# Refusals


def with_weights_elsewhere() -> nn.Module:
    model = tiny("llama").model
    model.model.layers[1].to("meta")
    return model


def placed_in_parts() -> nn.Module:
    model = tiny("llama").model
    model.hf_device_map = {"model.layers.0.mlp": 0}
    return model


def adapted() -> nn.Module:
    model = tiny("llama").model
    model.peft_config = {}
    return model


def of_type(model_type: str) -> nn.Module:
    model = tiny("llama").model
    model.config.model_type = model_type
    return model


def compiled() -> nn.Module:
    model = tiny("llama").model
    model.compile()
    return model


def classifier() -> nn.Module:
    return LlamaForSequenceClassification(tiny("llama").model.config)


def tiny_t5() -> nn.Module:
    sizes = {"d_model": 8, "d_ff": 8, "d_kv": 4, "num_layers": 1, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(vocab_size=97, **sizes))


def tiny_bert() -> nn.Module:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return BertLMHeadModel(BertConfig(vocab_size=97, is_decoder=True, **sizes))


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: "smollm2", "the name 'smollm2', not a model: load_model loads"),
        (lambda: nn.Linear(2, 2), "model is a Linear, where a Hugging Face"),
        (lambda: torch.compile(tiny("llama").model), "compiled OptimizedModule"),
        (compiled, "compiled LlamaForCausalLM"),
        (adapted, "with adapters.*merge_and_unload"),
        (with_weights_elsewhere, r"no weights in memory for model\.layers\.1\..*load_model"),
        (placed_in_parts, r"The device map of model places model\.layers\.0\.mlp, a part of model\.layers\.0"),
        (lambda: of_type("llama5"), r"Models of type 'llama5' have no spec.* spec=<name>"),
        (lambda: of_type("mamba"), "layers without attention"),
        (tiny_t5, "encoder-decoder"),
        (tiny_bert, "Models of type 'bert' have no spec"),
        (lambda: tiny("llama").model.model, "LlamaModel, which predicts no next token"),
        (classifier, "LlamaForSequenceClassification, which predicts no next token"),
    ],
)
def test_what_is_no_model_to_edit_is_refused_in_one_line(model: Callable[[], Any], said: str) -> None:
    with pytest.raises(ModelError, match=said) as error:
        wrap(model(), tiny_tokenizer())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("tokenizer", "said"),
    [
        (None, "tokenizer is a NoneType, where a Hugging Face tokenizer is due"),
        (tiny_tokenizer().backend_tokenizer, "tokenizer is a Tokenizer, where"),
        (SimpleNamespace(tokenizer=tiny_tokenizer()), r"give its \.tokenizer"),
    ],
)
def test_what_is_no_tokenizer_is_refused(tokenizer: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        wrap(tiny("llama").model, tokenizer)


def test_another_models_tokenizer_is_refused() -> None:
    with pytest.raises(ModelError, match="vocabulary of 97 and model embeds 50 tokens"):
        wrap(tiny("llama", vocab_size=50).model, tiny_tokenizer())


def test_a_model_and_its_tokenizer_swapped_are_told_apart() -> None:
    with pytest.raises(ModelError, match=re.escape("wrap(model, tokenizer)")):
        wrap(tiny_tokenizer(), tiny("llama").model)


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"name": "a/b"}, ConfigError, "name='a/b' must name a folder"),
        ({"spec": "lama"}, ModelError, "spec='lama' is unknown"),
        ({"spec_file": "nowhere.yaml"}, ModelError, r"spec_file=nowhere\.yaml cannot be read"),
    ],
)
def test_a_wrong_name_or_family_is_refused(given: dict[str, Any], kind: type[FvError], said: str) -> None:
    with pytest.raises(kind, match=said):
        wrap(tiny("llama").model, tiny_tokenizer(), **given)


def test_a_family_that_does_not_fit_is_refused_by_the_selfcheck() -> None:
    with pytest.raises(ModelError, match=r"Self-check of the spec phi|has no module"):
        wrap(tiny("llama").model, tiny_tokenizer(), spec="phi")
