"""Specs of model families: the paths of the modules that function vectors need.

A family is one declarative row. Nothing is guessed from a model's name: `config.model_type` selects the row, or a
spec's name forces it, and all other models are refused. The self-check at load (`fv.interventions.selfcheck`) proves
the row on each loaded model.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated_dataclass

from fv.config import ModelConfig
from fv.errors import ModelError


class FastEngine(StrEnum):
    """The fastest exact engine that a family allows; the naive loop is always allowed.

    `shared_prefix`: rows share one prefix (`fv.interventions.shared_prefix`); needs transformers' attention interface.
    `expanded`: the prefix's cache is repeated, one row per batch item (`fv.interventions.expanded_batch`); for windows,
    sinks, soft-capped scores and position biases.
    """

    shared_prefix = "shared_prefix"
    expanded = "expanded"


@validated_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ModelSpec:
    """Module paths and properties of one decoder-only family.

    Attributes:
        name: the name by which settings can force it.
        model_types: the values of `config.model_type` that it serves.
        blocks: path from the causal-LM model to the list of decoder blocks.
        out_proj: path from a block to its attention output projection (its input holds the head outputs).
        final_norm: path from the causal-LM model to the norm before the unembedding.
        mlp: path from a block to the module with the MLP's output, (batch, positions, d_model) or a tuple that starts
            with it; empty: there is none, and the MLP cannot be edited.
        sweep: the fastest exact engine.
        conv1d: whether the projection stores (in, out) like GPT-2's Conv1D, instead of (out, in).
        tuple_output: whether a block returns a tuple that starts with the residual stream, instead of the stream.
        parallel: whether a block's MLP reads the block's input instead of the attention's result; a string names the
            config attribute that says so.
        post_norm: path from a block to the norm that the attention output passes before it is added; empty: none.
        attention_multiplier: config attribute that scales the attention output before it is added; empty: none.
        logit_multiplier: config attribute that the logits are multiplied by; empty: none.
        logit_divisor: config attribute that the logits are divided by; empty: none.
        logit_softcap: config attribute c of logits c * tanh(logits / c); empty: none.
    """

    name: str
    model_types: tuple[str, ...]
    blocks: str
    out_proj: str
    final_norm: str
    mlp: str = ""
    sweep: FastEngine = FastEngine.expanded
    conv1d: bool = False
    tuple_output: bool = False
    parallel: bool | str = False
    post_norm: str = ""
    attention_multiplier: str = ""
    logit_multiplier: str = ""
    logit_divisor: str = ""
    logit_softcap: str = ""


@dataclass(frozen=True)
class _Layout:
    """Paths that several families share."""

    blocks: str
    out_proj: str
    final_norm: str
    mlp: str = "mlp"


_LLAMA = _Layout("model.layers", "self_attn.o_proj", "model.norm")
_GPT = _Layout("transformer.h", "attn.out_proj", "transformer.ln_f")
_FALCON = _Layout("transformer.h", "self_attention.dense", "transformer.ln_f")


def _spec(
    name: str, layout: _Layout, *, also: tuple[str, ...] = (), shared: bool = False, **properties: object
) -> ModelSpec:
    values: dict[str, object] = {"name": name, "model_types": (name, *also), **vars(layout), **properties}
    values["sweep"] = FastEngine.shared_prefix if shared else FastEngine.expanded
    return ModelSpec(**values)  # type: ignore[arg-type]


SPECS: tuple[ModelSpec, ...] = (
    _spec("gpt2", _Layout("transformer.h", "attn.c_proj", "transformer.ln_f"), shared=True, conv1d=True),
    _spec("gptj", _GPT, tuple_output=True, parallel=True),
    _spec("gpt_neo", _Layout("transformer.h", "attn.attention.out_proj", "transformer.ln_f"), tuple_output=True),
    _spec(
        "gpt_neox",
        _Layout("gpt_neox.layers", "attention.dense", "gpt_neox.final_layer_norm"),
        shared=True,
        parallel="use_parallel_residual",
    ),
    _spec(
        "opt",
        # Its MLP is in the block itself, and runs on tokens without their batch axis.
        _Layout("model.decoder.layers", "self_attn.out_proj", "model.decoder.final_layer_norm", mlp=""),
        shared=True,
    ),
    # The MLPs of Bloom and MPT add the residual stream to their output: these are the projections before.
    _spec("bloom", replace(_FALCON, mlp="mlp.dense_4h_to_h"), tuple_output=True),
    _spec("falcon", _FALCON, tuple_output=True, parallel="parallel_attn"),
    _spec(
        "mpt",
        _Layout("transformer.blocks", "attn.out_proj", "transformer.norm_f", mlp="ffn.down_proj"),
        tuple_output=True,
    ),
    _spec("codegen", _GPT, tuple_output=True, parallel=True),
    _spec("phi", _Layout("model.layers", "self_attn.dense", "model.final_layernorm"), shared=True, parallel=True),
    _spec("phi3", _LLAMA, shared=True),
    _spec("llama", _LLAMA, shared=True),
    _spec("mistral", _LLAMA, shared=True),
    _spec("mixtral", _LLAMA, shared=True),
    _spec("qwen2", _LLAMA, shared=True),
    _spec("qwen2_moe", _LLAMA, shared=True),
    _spec("qwen3", _LLAMA, shared=True),
    _spec("qwen3_moe", _LLAMA, shared=True),
    _spec("gemma", _LLAMA, shared=True),
    _spec("gemma2", _LLAMA, post_norm="post_attention_layernorm", logit_softcap="final_logit_softcapping"),
    _spec(
        "gemma3_text",
        _LLAMA,
        shared=True,
        post_norm="post_attention_layernorm",
        logit_softcap="final_logit_softcapping",
    ),
    _spec("olmo", _LLAMA, shared=True),
    _spec("olmo2", _LLAMA, shared=True, post_norm="post_attention_layernorm"),
    _spec("stablelm", _LLAMA, parallel="use_parallel_residual"),
    _spec("starcoder2", _LLAMA, shared=True),
    _spec("cohere", _LLAMA, shared=True, parallel=True, logit_multiplier="logit_scale"),
    _spec("gpt_oss", _LLAMA),
    _spec("granite", _LLAMA, shared=True, attention_multiplier="residual_multiplier", logit_divisor="logits_scaling"),
)


UNSUPPORTED = {
    **dict.fromkeys(
        ("mamba", "mamba2", "rwkv", "recurrent_gemma", "jamba", "bamba"), "it has layers without attention"
    ),
    **dict.fromkeys(("t5", "bart", "mt5"), "it is an encoder-decoder model"),
    **dict.fromkeys(("gemma3", "gemma3n", "llava", "mllama", "qwen2_vl"), "its blocks are inside a multimodal wrapper"),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3"), "its heads share a latent space, for which nothing is tested"),
}
"""Model types that are known not to fit, with the reasons."""


def find_spec(
    model_type: str,
    spec: str = ModelConfig.spec,
    spec_file: str | None = ModelConfig.spec_file,
    called: Callable[[str], str] = str,
) -> ModelSpec:
    """Find the spec of a model.

    Args:
        model_type: the model's `config.model_type`.
        spec: the name of a spec; `auto` for the one that serves `model_type`.
        spec_file: a file that holds the spec instead.
        called: gives the names of `spec` and `spec_file` in messages: their own, or their keys in the settings.

    Raises:
        ModelError: there is no such spec, or none for this model type; names the specs and their paths.
    """
    if spec_file is not None:
        return read_spec(Path(spec_file), called("spec_file"))
    known = "; ".join(f"{s.name} ({s.blocks}.*.{s.out_proj})" for s in SPECS)
    for own in SPECS:
        if own.name == spec or (spec == "auto" and model_type in own.model_types):
            return own
    if spec != "auto":
        raise ModelError(f"{called('spec')}={spec!r} is unknown. Known specs and the modules they use: {known}.")
    reason = f" ({UNSUPPORTED[model_type]})" if model_type in UNSUPPORTED else ""
    raise ModelError(
        f"Models of type {model_type!r} have no spec{reason}, so nothing could be edited in them. "
        f"Known specs and the modules they use: {known}. "
        f"If one of them fits, force it with {called('spec')}=<name>; or describe the family in a file and say "
        f"{called('spec_file')}=<file>.yaml (docs/models.md). The self-check at load will prove it or refuse."
    )


def read_spec(path: Path, name: str = "path") -> ModelSpec:
    """Read a family from a YAML file whose keys are the attributes of `ModelSpec`.

    Raises:
        ModelError: the file is missing, is not YAML, or has a wrong key or value; names all of them.
    """
    try:
        return TypeAdapter(ModelSpec).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ModelError(f"{name}={path} cannot be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise ModelError(f"{name}={path} is not YAML: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ModelError(f"{name}={path} describes no family: {wrong}.") from error
