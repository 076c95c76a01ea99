"""Count the cost of a head sweep at the shapes of larger models: `python -m benchmarks.forwards`.

The unit is one full forward of the prompt, per trial. There are three methods: one forward per head, as in the public
reference; the exact sweep on a shared prefix; and the screened sweep, which scores all heads by gradient and sweeps
some of them. Nothing is run: the models have a shape and no weights, and `fv/pricing/flops.py` counts their arithmetic.
The screened sweep is counted with prefixes that are kept between scores and sweep; if they are run twice, it costs one
forward more. With `--measure`, shapes that fit into memory are run with random weights, in seconds per trial.
"""

import argparse
from collections.abc import Sequence

import torch
from rich.console import Console
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.measure import seconds
from fv.heads.ranking import heads_to_sweep
from fv.interventions.engine import Head
from fv.interventions.gradient_scores import head_scores
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.models.spec import find_spec
from fv.pricing.flops import cie_flops, forward_flops, scoring_flops
from fv.pricing.shape import Shape

SHAPES = {
    # layers, heads, key-value heads, d_model, MLP width, vocabulary
    "SmolLM2-135M": (30, 9, 3, 576, 1536, 49152),
    "Llama-3.2-1B": (16, 32, 8, 2048, 8192, 128256),
    "Llama-2-7B": (32, 32, 32, 4096, 11008, 32000),
    "Llama-2-13B": (40, 40, 40, 5120, 13824, 32000),
    "Llama-2-70B": (80, 64, 8, 8192, 28672, 32000),
}


def shaped(name: str, device: str = "meta") -> LanguageModel:
    """Make a model of a shape: without weights, or on a real device with random weights."""
    layers, heads, kv_heads, width, mlp, vocabulary = SHAPES[name]
    config = LlamaConfig(
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        hidden_size=width,
        intermediate_size=mlp,
        vocab_size=vocabulary,
    )
    with torch.device(device):
        model = LlamaForCausalLM._from_config(config, attn_implementation="eager").eval().requires_grad_(False)
    return LanguageModel(model, None, find_spec("llama"), name, {})


def spread(heads: Sequence[Head], count: int) -> list[Head]:
    """Choose `count` heads, spread over the layers."""
    return [heads[i * len(heads) // count] for i in range(min(count, len(heads)))]


def measured(name: str, n_tokens: int, n_verified: int, n_trials: int, max_rows: int) -> dict[str, float | str]:
    """Measure the seconds per trial of a shape with random weights; the method of one forward per head times one."""
    torch.manual_seed(0)
    lm = shaped(name, "cpu")
    ids = torch.randint(0, lm.vocabulary, (n_trials, n_tokens + 1)).tolist()
    prompts = [Prompt(tuple(own[1:]), (own[0],)) for own in ids]
    heads = heads_to_sweep("all", "all", lm.n_layers, lm.n_heads)
    engine = SharedPrefixEngine(lm, max_rows)
    values = engine.last_token(prompts).head_outputs.mean(0)

    def screened() -> None:
        with engine.keeping(2**34):
            head_scores(lm, prompts, values, max_rows=max_rows, run=engine.run_prompts)
            engine.patch_heads(prompts, values, spread(heads, n_verified))

    with torch.no_grad():
        one = seconds(lambda: lm.model(torch.tensor([prompts[0].token_ids]), use_cache=False).logits)
    exact = seconds(lambda: engine.patch_heads(prompts, values, heads), 2) / n_trials
    both = seconds(screened, 2) / n_trials
    return {
        "shape": f"{name}, {lm.n_layers} × {lm.n_heads}",
        "a forward a head (s)": one * (len(heads) + 1),
        "exact (s)": exact,
        "screened (s)": both,
        "exact / screened": exact / both,
        "reference / screened": one * (len(heads) + 1) / both,
    }


def counted(name: str, n_tokens: int, n_verified: int, points: int) -> dict[str, float | str]:
    """Count one row of the table; the verified heads are spread over the layers."""
    lm = shaped(name)
    heads = heads_to_sweep("all", "all", lm.n_layers, lm.n_heads)
    some, shape = spread(heads, n_verified), Shape.of(lm)
    one = forward_flops(shape, n_tokens)
    exact = cie_flops(shape, n_tokens, heads) / one
    verified, scoring = cie_flops(shape, n_tokens, some) / one, scoring_flops(shape, n_tokens, points) / one
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
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=90, help="tokens of a prompt: ten shots of short words")
    parser.add_argument("--verified", type=int, default=82, help="heads swept: 40 best, 10 negative, 32 random")
    parser.add_argument("--points", type=int, default=0, help="points per layer of `integrated`; 0 for `gradient`")
    parser.add_argument("--measure", nargs="*", choices=[*SHAPES], help="shapes to run, such as Llama-3.2-1B")
    parser.add_argument("--trials", type=int, default=12, help="number of trials to run at each shape")
    parser.add_argument("--max-rows", type=int, default=4096, help="compute.max_rows")
    args = parser.parse_args()
    rows = [counted(name, args.tokens, args.verified, args.points) for name in SHAPES]
    console = Console(width=160)
    console.print(f"Forward-equivalents per trial of {args.tokens} tokens; {args.verified} heads verified.")
    show(console, rows)
    if args.measure:
        show(console, [measured(name, args.tokens, args.verified, args.trials, args.max_rows) for name in args.measure])


def show(console: Console, rows: list[dict[str, float | str]]) -> None:
    """Print a table as Markdown."""
    console.print(" | ".join(["", *rows[0], ""]).strip())
    console.print("|---" * len(rows[0]) + "|")
    for row in rows:
        cells = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()]
        console.print(" | ".join(["", *cells, ""]).strip())


if __name__ == "__main__":
    main()
