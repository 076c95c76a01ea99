"""Subjects of the benchmarks: models, and prompts for them."""

from collections.abc import Sequence

import torch
from hydra import compose, initialize
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from entrypoints.app import typed
from fv.config import Config
from fv.data.prompts import prompt_of
from fv.data.relations import read_configured
from fv.data.sampling import sample_snapshot
from fv.data.trials import Trials
from fv.interventions.loading import load_configured
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.models.spec import find_spec

ONE_RELATION = ("country_capital",)
EIGHT_RELATIONS = (
    *("antonym", "capitalize", "country_capital", "country_demonym"),
    *("country_language", "english_french", "noun_plural", "verb_past"),
)


def configured(*overrides: str) -> Config:
    """Compose a configuration as the entrypoints do."""
    with initialize(version_base="1.3", config_path="../conf"):
        return typed(compose("pipeline", overrides=list(overrides)))


def smollm2(device: str = "cpu", dtype: str = "fp32") -> LanguageModel:
    """Load the embedded model, 30 layers x 9 heads."""
    config = configured(f"compute.device={device}", f"compute.dtype={dtype}", "compute.strict=false")
    return load_configured(config.model, config.compute)


def gpt2_shape(tokenizer_of: LanguageModel) -> LanguageModel:
    """Make GPT-2 small with random weights, 12 layers x 12 heads; it borrows a fitting tokenizer, and a device."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel._from_config(GPT2Config(), attn_implementation="eager").eval().requires_grad_(False)
    model.to(tokenizer_of.device, tokenizer_of.dtype)
    return LanguageModel(model, tokenizer_of.tokenizer, find_spec("gpt2"), "gpt2-small shape", tokenizer_of.fingerprint)


def gemma_shape(tokenizer_of: LanguageModel) -> LanguageModel:
    """Make Gemma-3-270m with random weights, 18 layers x 4 heads, 262k tokens; it borrows tokenizer and device, too."""
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=262_144,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=18,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
    )
    model = Gemma3ForCausalLM._from_config(config, attn_implementation="eager").eval().requires_grad_(False)
    model.to(tokenizer_of.device, tokenizer_of.dtype)
    spec, name = find_spec("gemma3_text"), "gemma-3-270m shape"
    return LanguageModel(model, tokenizer_of.tokenizer, spec, name, tokenizer_of.fingerprint)


def tiny_llama_weights() -> LlamaForCausalLM:
    """Make a random Llama for SmolLM2's tokenizer: 3 layers x 4 heads, grouped-query, head_dim != hidden / heads."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=40,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        max_position_embeddings=512,
        initializer_range=0.15,
        attention_bias=True,
    )
    model = LlamaForCausalLM(config)
    randomise_biases(model)
    return model


def randomise_biases(model: torch.nn.Module) -> None:
    """Set biases to random values: they start at zero, where a forgotten bias would not be noticed."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)


def tiny_llama(tokenizer_of: LanguageModel) -> LanguageModel:
    """Make the tiny random Llama with a borrowed tokenizer of SmolLM2."""
    model = tiny_llama_weights().eval().requires_grad_(False)
    model.set_attn_implementation("eager")
    return LanguageModel(model, tokenizer_of.tokenizer, find_spec("llama"), "tiny llama", tokenizer_of.fingerprint)


def demo_trials(lm: LanguageModel) -> Trials:
    """Sample the trials of `make demo`."""
    config = configured("experiment=demo")
    return Trials(sample_snapshot(read_configured(config.data), config.data, config.seed, lm))


def prompts(
    lm: LanguageModel, n_demos: int, n_trials: int, relations: Sequence[str] = ONE_RELATION
) -> tuple[list[Prompt], list[Prompt]]:
    """Make corrupted few-shot prompts and zero-shot prompts of real trials, `n_trials` per relation."""
    qids = f"data.qids=[{','.join(relations)}]"
    config = configured(qids, f"data.n_demos={n_demos}", f"data.n_trials_per_q={n_trials}", "data.split=shared")
    snapshot = sample_snapshot(read_configured(config.data), config.data, config.seed, lm)
    corrupted = [prompt_of(lm, snapshot, trial, "corrupted") for trial in snapshot.trials]
    zero_shot = [prompt_of(lm, snapshot, trial, "zero_shot") for trial in snapshot.trials]
    return corrupted, zero_shot
