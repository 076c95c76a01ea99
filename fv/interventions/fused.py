"""Element-wise code of transformers' modules in fewer passes over memory, for as long as an engine's pass lasts.

A class is in `FUSED` because replacing its forward was measured to be faster (docs/engine.md). The self-check at load,
or where none is made the first pass, compares each with the module's own forward on the model at hand, and what is off
is left alone. Nothing stays in a model: its owner's forwards are put back behind every pass.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

from fv.models.language_model import LanguageModel

Fused = Callable[[Any, Tensor], Tensor]
"""A module's forward, with the module."""


def rms_norm(module: Any, hidden: Tensor) -> Tensor:
    """weight * x / sqrt(mean(x²) + eps), with one tensor of the size of x and none beside it."""
    return _normed(hidden, module.variance_epsilon).mul_(module.weight)


def gemma_rms_norm(module: Any, hidden: Tensor) -> Tensor:
    """The same with 1 + weight."""
    return _normed(hidden, module.eps).mul_(1 + module.weight)


def _normed(hidden: Tensor, eps: float) -> Tensor:
    scale = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)
    return hidden * scale.square_().div_(hidden.shape[-1]).add_(eps).rsqrt_()


def gated_mlp(module: Any, hidden: Tensor) -> Tensor:
    """down(activation(gate(x)) * up(x)), the product in place, and SiLU too."""
    gate = module.gate_proj(hidden)
    activated = silu(gate, inplace=True) if isinstance(module.act_fn, nn.SiLU) else module.act_fn(gate)
    return module.down_proj(activated.mul_(module.up_proj(hidden)))


def tanh_gelu(_module: Any, hidden: Tensor) -> Tensor:
    """GPT-2's approximation of GELU in one call; written out, its third power alone takes longer than the block's
    products of matrices."""
    return gelu(hidden, approximate="tanh")


FUSED: dict[str, Fused] = {
    **dict.fromkeys(
        ("LlamaRMSNorm", "MistralRMSNorm", "MixtralRMSNorm", "Phi3RMSNorm", "GraniteRMSNorm", "Olmo2RMSNorm"), rms_norm
    ),
    **dict.fromkeys(("Qwen2RMSNorm", "Qwen2MoeRMSNorm", "Qwen3RMSNorm", "Qwen3MoeRMSNorm"), rms_norm),
    **dict.fromkeys(("GemmaRMSNorm", "Gemma2RMSNorm", "Gemma3RMSNorm"), gemma_rms_norm),
    **dict.fromkeys(("LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP", "OlmoMLP", "Olmo2MLP", "GraniteMLP"), gated_mlp),
    **dict.fromkeys(("GemmaMLP", "Gemma2MLP", "Gemma3MLP", "CohereMLP", "StableLmMLP"), gated_mlp),
    "NewGELUActivation": tanh_gelu,
}
"""What is run instead of a module's forward, by the name of its class."""
TOLERANCE = 2e-6
"""How far a fused call may be from the module's own, relative to its largest value: a few roundings in float32."""
USED = "fused"
"""Where a self-check says which classes are replaced: {class: how far off it was, or None where it is left alone}."""
_PROVED: WeakKeyDictionary[nn.Module, dict[str, float | None]] = WeakKeyDictionary()


@contextmanager
def fused_modules(lm: LanguageModel) -> Iterator[None]:
    """Run the modules of those classes fused that the model's self-check proved, and put all back afterwards."""
    proved = lm.selfcheck.get(USED)
    if proved is None:
        if lm.model not in _PROVED:
            _PROVED[lm.model] = prove_fused(lm)
        proved = _PROVED[lm.model]
    with ExitStack() as stack:
        for module in _candidates(lm):
            name = type(module).__name__
            if proved.get(name) is not None:
                stack.enter_context(_run_as(module, partial(FUSED[name], module)))
        yield


def prove_fused(lm: LanguageModel) -> dict[str, float | None]:
    """Compare every module that could run fused with itself, on what it is called with in a short prompt.

    Returns:
        {class: largest difference, relative to the largest value}; None for a class that is off, and is left alone.
    """
    worst: dict[str, float] = {}

    def compared(module: Any, own: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
        name, output = type(module).__name__, own(hidden)
        try:
            found = FUSED[name](module, hidden.clone())
            error = float((found - output).abs().max() / output.abs().max().clamp_min(1e-30))
        except (AttributeError, IndexError, RuntimeError, TypeError):
            error = torch.inf  # a class of this name that is another one
        worst[name] = max(worst.get(name, 0.0), error)
        return output

    candidates = _candidates(lm)
    if not candidates:
        return {}
    with ExitStack() as stack:
        for module in candidates:
            own = getattr(module, _forward_of(module))
            stack.enter_context(_run_as(module, partial(compared, module, own)))
        lm.model(input_ids=torch.tensor([short_prompt(lm)], device=lm.device), use_cache=False)
    return {name: error if error <= TOLERANCE else None for name, error in sorted(worst.items())}


def short_prompt(lm: LanguageModel) -> list[int]:
    """Six token ids, any that the model has: what is proved at load is proved on them."""
    return [(7 + 11 * i) % lm.vocabulary for i in range(6)]


def _candidates(lm: LanguageModel) -> list[Any]:
    """Modules of a class in `FUSED`, in float32: narrower numbers are widened and narrowed inside each module, and
    wider ones narrowed. One with a forward of its owner's keeps it."""
    if lm.dtype is not torch.float32:
        return []
    modules = (module for module in lm.model.modules() if type(module).__name__ in FUSED)
    return [module for module in modules if "forward" not in vars(module) or _forward_of(module) != "forward"]


def _forward_of(module: Any) -> str:
    """The attribute that holds what a module computes; accelerate keeps it elsewhere, and has `forward` bring weights
    and inputs to where it runs."""
    return "_old_forward" if {"_hf_hook", "_old_forward"} <= vars(module).keys() else "forward"


@contextmanager
def _run_as(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    name = _forward_of(module)
    before = vars(module).get(name)
    setattr(module, name, forward)
    try:
        yield
    finally:
        if before is None:
            delattr(module, name)
        else:
            setattr(module, name, before)
