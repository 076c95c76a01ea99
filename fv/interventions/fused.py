"""Fused modules: element-wise code of transformers' modules in fewer passes over memory, during an engine's passes.

A class is in `FUSED` because replacing its forward was measured to be faster (docs/engine.md). The self-check at load,
or without one the first pass, compares each replacement with the module's own forward on the loaded model; a class that
differs is not replaced. Nothing stays in a model: its owner's forwards are restored after every pass.
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
"""A module's forward, as a function of the module and its input."""


def rms_norm(module: Any, hidden: Tensor) -> Tensor:
    """weight * x / sqrt(mean(x²) + eps), with only one new tensor of the size of x."""
    return _normed(hidden, module.variance_epsilon).mul_(module.weight)


def gemma_rms_norm(module: Any, hidden: Tensor) -> Tensor:
    """(1 + weight) * x / sqrt(mean(x²) + eps), with only one new tensor of the size of x."""
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
    matrix products."""
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
"""Replacements of modules' forwards, by the name of the module's class."""
TOLERANCE = 2e-6
"""Largest difference of a fused call from the module's own, relative to its largest value: some float32 roundings."""
USED = "fused"
"""Key in a self-check of the replaced classes: {class: largest difference, or None if it is not replaced}."""
_PROVED: WeakKeyDictionary[nn.Module, dict[str, float | None]] = WeakKeyDictionary()


@contextmanager
def fused_modules(lm: LanguageModel) -> Iterator[None]:
    """Run modules fused, for as long as the block lasts, if the model's self-check proved their classes."""
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
    """Compare every module that could run fused with its own forward, on its inputs for a short prompt.

    Returns:
        {class: largest difference, relative to the largest value}; None for a class that differs too much to replace.
    """
    worst: dict[str, float] = {}

    def compared(module: Any, own: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
        name, output = type(module).__name__, own(hidden)
        try:
            found = FUSED[name](module, hidden.clone())
            error = float((found - output).abs().max() / output.abs().max().clamp_min(1e-30))
        except (AttributeError, IndexError, RuntimeError, TypeError):
            error = torch.inf  # another class of the same name
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
    """Six arbitrary token ids of the model; the checks at load run on them."""
    return [(7 + 11 * i) % lm.vocabulary for i in range(6)]


def _candidates(lm: LanguageModel) -> list[Any]:
    """Modules of a class in `FUSED`, in float32 only: in other formats, modules convert numbers inside their forward.

    A module whose owner has replaced its forward keeps that.
    """
    if lm.dtype is not torch.float32:
        return []
    modules = (module for module in lm.model.modules() if type(module).__name__ in FUSED)
    return [module for module in modules if "forward" not in vars(module) or _forward_of(module) != "forward"]


def _forward_of(module: Any) -> str:
    """The attribute that holds a module's computation; accelerate moves it, and lets `forward` bring weights and inputs
    to the module's device first."""
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
