"""Where each model family keeps the modules that function vectors touch.

A family is one declarative row. Nothing here guesses from a model's name: `config.model_type` picks the
row, or `model.spec=<name>` forces it, and everything else is refused.
"""

from dataclasses import dataclass

from fv.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Module paths and properties of one decoder-only family.

    Attributes:
        name: what `model.spec` calls it.
        model_types: the values of `config.model_type` it serves.
        blocks: path from the causal-LM model to the list of decoder blocks.
        out_proj: path from a block to its attention output projection (its input holds the head outputs).
        final_norm: path from the causal-LM model to the norm before the unembedding.
        shared_prefix: whether last-token rows may share one prefix (`fv.shared_prefix`); true only where a
            parity test against the naive loop exists.
    """

    name: str
    model_types: tuple[str, ...]
    blocks: str
    out_proj: str
    final_norm: str
    shared_prefix: bool


SPECS: tuple[ModelSpec, ...] = (
    ModelSpec(
        name="gpt2",
        model_types=("gpt2",),
        blocks="transformer.h",
        out_proj="attn.c_proj",
        final_norm="transformer.ln_f",
        shared_prefix=True,
    ),
    ModelSpec(
        name="llama",
        model_types=("llama",),
        blocks="model.layers",
        out_proj="self_attn.o_proj",
        final_norm="model.norm",
        shared_prefix=True,
    ),
)


def find_spec(model_type: str, wanted: str = "auto") -> ModelSpec:
    """Return the spec called `wanted`, or with `auto` the one that serves `model_type`.

    Raises:
        ModelError: no such spec, or no family for this model type; names the specs and the paths they try.
    """
    known = "; ".join(f"{s.name} ({s.blocks}.*.{s.out_proj})" for s in SPECS)
    for spec in SPECS:
        if spec.name == wanted or (wanted == "auto" and model_type in spec.model_types):
            return spec
    if wanted != "auto":
        raise ModelError(f"model.spec={wanted!r} is unknown. Known specs and the modules they use: {known}.")
    raise ModelError(
        f"Models of type {model_type!r} have no spec, so nothing could be edited in them. "
        f"Known specs and the modules they use: {known}. "
        f"If one of them fits, force it with model.spec=<name>; the self-check at load will prove it or refuse."
    )
