"""What is measured: two models, and few-shot prompts for them."""

from collections.abc import Sequence

import torch
from hydra import compose, initialize
from transformers import GPT2Config, GPT2LMHeadModel

from entrypoints.app import typed
from fv.config import Config
from fv.data.relations import read_configured
from fv.data.sampling import prompt_of, sample_snapshot
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
    """A configuration, composed as the entrypoints do."""
    with initialize(version_base="1.3", config_path="../conf"):
        return typed(compose("pipeline", overrides=list(overrides)))


def smollm2() -> LanguageModel:
    """The embedded model, 30 layers x 9 heads."""
    config = configured()
    return load_configured(config.model, config.compute)


def gpt2_shape(tokenizer_of: LanguageModel) -> LanguageModel:
    """GPT-2 small with random weights, 12 layers x 12 heads; it borrows a tokenizer, whose ids all fit."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel._from_config(GPT2Config(), attn_implementation="eager").eval().requires_grad_(False)
    return LanguageModel(model, tokenizer_of.tokenizer, find_spec("gpt2"), "gpt2-small shape", tokenizer_of.fingerprint)


def prompts(
    lm: LanguageModel, n_demos: int, n_trials: int, relations: Sequence[str] = ONE_RELATION
) -> tuple[list[Prompt], list[Prompt]]:
    """Corrupted few-shot prompts and zero-shot prompts of real trials, `n_trials` a relation."""
    qids = f"data.qids=[{','.join(relations)}]"
    config = configured(qids, f"data.n_demos={n_demos}", f"data.n_trials_per_q={n_trials}", "data.split=shared")
    snapshot = sample_snapshot(read_configured(config.data), config.data, config.seed, lm)
    corrupted = [prompt_of(lm, snapshot, trial, "corrupted") for trial in snapshot.trials]
    zero_shot = [prompt_of(lm, snapshot, trial, "zero_shot") for trial in snapshot.trials]
    return corrupted, zero_shot
