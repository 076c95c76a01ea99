"""Count what a head sweep costs at the shapes of larger models: `python -m benchmarks.forwards`.

In units of one full forward of the prompt, a trial, for three manners: one forward a head, as the public reference
does; the exact sweep on a shared prefix; and the screened one, which scores all heads by gradient and sweeps some.
Nothing is run: the models have a shape and no weights. What is counted is in `benchmarks/flops.py`.
"""

import argparse

import torch
from rich.console import Console
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.flops import cie_flops, forward_flops, scoring_flops
from fv.heads.ranking import heads_to_sweep
from fv.models.language_model import LanguageModel
from fv.models.spec import find_spec

SHAPES = {
    # layers, heads, key-value heads, d_model, MLP width, vocabulary
    "SmolLM2-135M": (30, 9, 3, 576, 1536, 49152),
    "Llama-3.2-1B": (16, 32, 8, 2048, 8192, 128256),
    "Llama-2-7B": (32, 32, 32, 4096, 11008, 32000),
    "Llama-2-13B": (40, 40, 40, 5120, 13824, 32000),
    "Llama-2-70B": (80, 64, 8, 8192, 28672, 32000),
}


def shaped(name: str) -> LanguageModel:
    """A model of a shape, without weights."""
    layers, heads, kv_heads, width, mlp, vocabulary = SHAPES[name]
    config = LlamaConfig(
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        hidden_size=width,
        intermediate_size=mlp,
        vocab_size=vocabulary,
    )
    with torch.device("meta"):
        return LanguageModel(LlamaForCausalLM(config), None, find_spec("llama"), name, {})


def counted(name: str, n_tokens: int, n_verified: int, points: int) -> dict[str, float | str]:
    """One row of the table; the verified heads are spread over the layers."""
    lm = shaped(name)
    heads = heads_to_sweep("all", "all", lm.n_layers, lm.n_heads)
    some = [heads[i * len(heads) // n_verified] for i in range(min(n_verified, len(heads)))]
    one = forward_flops(lm, n_tokens)
    exact = cie_flops(lm, n_tokens, heads) / one
    verified, scoring = cie_flops(lm, n_tokens, some) / one, scoring_flops(lm, n_tokens, points) / one
    return {
        "shape": f"{name}, {lm.n_layers} × {lm.n_heads}",
        "a forward a head": len(heads) + 1,
        "exact": exact,
        "screened": verified + scoring,
        "of which scores": scoring,
        "exact / screened": exact / (verified + scoring),
        "reference / screened": (len(heads) + 1) / (verified + scoring),
    }


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=90, help="tokens of a prompt: ten shots of short words")
    parser.add_argument("--verified", type=int, default=82, help="heads swept: 40 best, 10 negative, 32 random")
    parser.add_argument("--points", type=int, default=0, help="points of `integrated`; 0 for `gradient`")
    args = parser.parse_args()
    rows = [counted(name, args.tokens, args.verified, args.points) for name in SHAPES]
    console = Console(width=160)
    console.print(f"Forward-equivalents a trial of {args.tokens} tokens; {args.verified} heads verified.")
    console.print(" | ".join(["", *rows[0], ""]).strip())
    console.print("|---" * len(rows[0]) + "|")
    for row in rows:
        cells = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()]
        console.print(" | ".join(["", *cells, ""]).strip())


if __name__ == "__main__":
    main()
