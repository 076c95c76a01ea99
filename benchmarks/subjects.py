"""What is measured: two models, and few-shot prompts for them."""

import torch
from hydra import compose, initialize
from transformers import GPT2Config, GPT2LMHeadModel

from entrypoints.app import typed
from fv.config import Config
from fv.models.language_model import LanguageModel
from fv.models.loading import load_model
from fv.models.spec import find_spec
from fv.relations import read_relations
from fv.steps.sampling import prompt_of, sample_snapshot
from fv.sweep import Prompt

RELATION = "country_capital"


def configured(*overrides: str) -> Config:
    """A configuration, composed as the entrypoints do."""
    with initialize(version_base="1.3", config_path="../conf"):
        return typed(compose("pipeline", overrides=[f"data.qids=[{RELATION}]", *overrides]))


def smollm2() -> LanguageModel:
    """The embedded model, 30 layers x 9 heads."""
    return load_model(configured())


def gpt2_shape(tokenizer_of: LanguageModel) -> LanguageModel:
    """GPT-2 small with random weights, 12 layers x 12 heads; it borrows a tokenizer, whose ids all fit."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel._from_config(GPT2Config(), attn_implementation="eager").eval().requires_grad_(False)
    return LanguageModel(model, tokenizer_of.tokenizer, find_spec("gpt2"), "gpt2-small shape", tokenizer_of.fingerprint)


def prompts(lm: LanguageModel, n_demos: int, n_trials: int) -> tuple[list[Prompt], list[Prompt]]:
    """Corrupted few-shot prompts and zero-shot prompts of real trials."""
    config = configured(f"data.n_demos={n_demos}", f"data.n_trials_per_q={n_trials}", "data.split=shared")
    snapshot = sample_snapshot(read_relations(config.data), config, lm)
    corrupted = [prompt_of(lm, snapshot, t.corrupted_prompt_str, t.target_first_token_id) for t in snapshot.trials]
    zero_shot = [prompt_of(lm, snapshot, t.zero_shot_prompt_str, t.target_first_token_id) for t in snapshot.trials]
    return corrupted, zero_shot
