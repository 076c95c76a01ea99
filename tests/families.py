"""Tiny config-only models of every family: grouped-query heads and head_dim != hidden / heads wherever it has them."""

from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

from fv.interventions.editable import EditableModel
from fv.models.language_model import LanguageModel
from fv.models.spec import SPECS, find_spec

VOCABULARY = 97
COMMON = {"vocab_size": VOCABULARY, "max_position_embeddings": 64, "initializer_range": 0.15}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
WIDE = {"hidden_size": 40, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
GROUPED = {**WIDE, "num_key_value_heads": 2}
ODD_HEADS = {**GROUPED, "head_dim": 12}
GPT = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
EXPERTS = {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
WINDOW = {"sliding_window": 64, "query_pre_attn_scalar": 12}
LOCAL_GLOBAL = ["sliding_attention", "full_attention", "sliding_attention"]

SIZES: dict[str, dict[str, Any]] = {
    "gpt2": GPT,
    "gptj": {**GPT, "rotary_dim": 4},
    "gpt_neo": {
        "hidden_size": 40,
        "num_layers": 4,
        "num_heads": 4,
        "intermediate_size": 64,
        "attention_types": [[["global", "local"], 2]],
        "window_size": 3,
    },
    "gpt_neox": WIDE,
    "opt": {
        "hidden_size": 40,
        "ffn_dim": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "word_embed_proj_dim": 40,
    },
    "bloom": {"hidden_size": 40, "n_layer": 3, "n_head": 4},
    "falcon": {**WIDE, "alibi": False, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": False},
    "mpt": {"d_model": 40, "n_layers": 3, "n_heads": 4, "max_seq_len": 64, "expansion_ratio": 2},
    "codegen": {**GPT, "rotary_dim": 4},
    "phi": {**GROUPED, "hidden_size": 32},
    "phi3": GROUPED,
    "llama": {**ODD_HEADS, "attention_bias": True},
    "mistral": {**ODD_HEADS, "sliding_window": 64},
    "mixtral": {**ODD_HEADS, "num_local_experts": 3, "num_experts_per_tok": 2},
    "qwen2": ODD_HEADS,
    "qwen2_moe": {**GROUPED, **EXPERTS, "shared_expert_intermediate_size": 32},
    "qwen3": ODD_HEADS,
    "qwen3_moe": {**ODD_HEADS, **EXPERTS},
    "gemma": ODD_HEADS,
    "gemma2": {**ODD_HEADS, **WINDOW, "sliding_window": 4},
    "gemma3_text": {**ODD_HEADS, **WINDOW, "layer_types": LOCAL_GLOBAL, "final_logit_softcapping": 5.0},
    "olmo": GROUPED,
    "olmo2": GROUPED,
    "stablelm": GROUPED,
    "starcoder2": {**GROUPED, "sliding_window": 64},
    "cohere": GROUPED,
    "gpt_oss": {
        **ODD_HEADS,
        "num_local_experts": 3,
        "num_experts_per_tok": 2,
        "sliding_window": 4,
        "rope_parameters": None,
    },
    "granite": {**GROUPED, "residual_multiplier": 0.7, "logits_scaling": 3.0},
}
CHARACTERS = ["\n", *map(chr, range(ord(" "), ord(" ") + VOCABULARY - len(SPECIAL) - 1))]
KINDS = ("gpt2", "llama", "gpt_neox", "gptj", "gemma2", "bloom", "olmo2", "mixtral", "gpt_oss")
"""A family of each kind: learned positions, rotary, parallel blocks of both sorts, windows, ALiBi, norms behind the
attention, experts, sinks."""
FAMILIES = [pytest.param(spec.name, marks=[] if spec.name in KINDS else pytest.mark.slow) for spec in SPECS]


def tiny(family: str, dtype: torch.dtype = torch.float32, **changes: Any) -> LanguageModel:
    """A random model of a family, without a tokenizer."""
    torch.manual_seed(0)
    sizes = {**COMMON, **SPECIAL, **SIZES[family], **changes}
    if sizes.get("rope_parameters", 0) is None:
        sizes["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0}
    config = CONFIG_MAPPING[family](**sizes)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").to(dtype).eval().requires_grad_(False)
    if dtype is torch.float64:
        model.set_experts_implementation("eager")  # as `fv.models.loading` does
    for name, parameter in model.named_parameters():
        # Biases, sinks and norms' weights start at 0 or 1, where forgetting one would go unseen.
        if parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn_like(parameter))
        elif name.endswith("bias"):
            parameter.normal_(std=0.1)
    return LanguageModel(model, None, find_spec(config.model_type), family, {})


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer for the tiny models: a token a character. It has no padding token."""
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<bos>", "<eos>", *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>")


def tiny_editable(family: str, **changes: Any) -> EditableModel:
    """A random model of a family with a tokenizer, as `load_model` would return it."""
    lm = tiny(family, **changes)
    return EditableModel(lm.model, tiny_tokenizer(), lm.spec, lm.name, {})
