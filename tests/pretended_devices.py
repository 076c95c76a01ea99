"""Devices that are not there: tensors that say they are on one, compute on the CPU, and never meet across devices.

An operation whose tensors are on different devices is refused, as an accelerator refuses it, so a forgotten move is
found without one. torch knows the devices as a backend of its own, which cannot be taken back: run this file as a
process, `python tests/pretended_devices.py llama gpt2`, and read what it prints.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate.hooks import (  # type: ignore[import-untyped]  # it ships no types
    AlignDevicesHook,
    add_hook_to_module,
)
from families import tiny, tiny_editable
from placement_checks import numbers_of, parts_of, whole_modules
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

import fv
from fv.interventions.editable import EditableModel
from fv.interventions.selfcheck import selfcheck
from fv.models.language_model import LanguageModel

QUIET = fv.Compute(progress=False)

Model = TypeVar("Model", bound=LanguageModel)
PLACES = [torch.device(f"privateuseone:{number}") for number in range(3)]
MOVES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default, torch.ops.aten.lift_fresh.default}
INDEXING = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default}


class Placed(Tensor):
    """A CPU tensor, `held`, that says it is on another device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device) -> "Placed":
        strides, offset = held.stride(), held.storage_offset()
        placed = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=strides, storage_offset=offset, dtype=held.dtype, device=device
        )
        placed.held = held
        return placed

    def __deepcopy__(self, memo: Any) -> "Placed":
        return Placed(self.held.clone(), self.device)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]  # torch's own stub has no `cls`
        return computed(func, args, kwargs or {})


class Pretending(TorchDispatchMode):
    """Lets tensors be made on the devices that are not there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the CPU, if its tensors are on one device."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    # As with a real device: scalars and indices on the CPU go with anything.
    devices = {t.device for t in tensors if t.ndim or t.device.type != "cpu"}
    if func in INDEXING and args[0].device.type != "cpu":
        indices = {leaf.device for leaf in tree_leaves(args[1]) if isinstance(leaf, Tensor)} - {torch.device("cpu")}
        devices = indices | {t.device for t in [args[0], *args[2:3]] if t.ndim or t.device.type != "cpu"}
    if len(devices) > 1 and func not in MOVES:
        raise RuntimeError(f"{func} of tensors on {', '.join(sorted(map(str, devices)))}")
    device = kwargs.get("device") or (args[0].device if func in MOVES else next(iter(devices), torch.device("cpu")))
    if "device" in kwargs:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    owners = {id(t.held): t for t in tensors if isinstance(t, Placed)}
    found = func(*tree_map(_held, args), **tree_map(_held, kwargs))

    def place(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or device.type == "cpu":
            return leaf
        return owners[id(leaf)] if id(leaf) in owners else Placed(leaf, device)

    return tree_map(place, found)


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, Placed) else leaf


@contextmanager
def pretended() -> Iterator[None]:
    """Inside, tensors can be made on and moved to the devices of `PLACES`."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # tensors made from numbers are made here, then moved
    try:
        with Pretending():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


class Moving(AlignDevicesHook):
    """accelerate's hook for a module whose weights stay where they are."""

    def init_hook(self, module: Any) -> Any:
        return module


def spread(lm: Model) -> Model:
    """Put the blocks on three devices in turn, and what follows them on others than what comes before.

    The hooks are those that accelerate puts on modules whose weights are all in an accelerator's memory.
    """
    skip = lm.model._skip_keys_device_placement
    modules = dict(lm.model.named_modules())
    places = dict.fromkeys(whole_modules(lm), PLACES[0])
    for path in places:
        if modules[path] is lm.final_norm:
            places[path] = PLACES[1]
        elif modules[path] is lm.unembedding and lm.unembedding.weight is not lm.model.get_input_embeddings().weight:
            places[path] = PLACES[2]
        elif any(modules[path] is block for block in lm.blocks):
            places[path] = PLACES[int(path.rpartition(".")[2]) % len(PLACES)]
    seen: dict[int, torch.nn.Parameter] = {}
    for path, device in places.items():
        for part in modules[path].modules():
            for name, weight in part.named_parameters(recurse=False):
                placed = torch.nn.Parameter(Placed(weight.data, device), requires_grad=False)
                part._parameters[name] = seen.setdefault(id(weight), placed)
            for name, buffer in part.named_buffers(recurse=False):
                part._buffers[name] = Placed(buffer, device)
            if len(part.state_dict()):
                add_hook_to_module(part, Moving(device, skip_keys=skip))
    add_hook_to_module(lm.model, Moving(PLACES[0], io_same_device=True, skip_keys=skip), append=True)
    return lm


def differences(family: str) -> dict[str, float]:
    """The largest difference between a model in one place and on three devices, for each engine and the rest."""
    lm, whole = spread(tiny(family)), tiny(family)
    for model in (lm.model, whole.model):
        model.set_experts_implementation("eager")  # the grouped products ask the device for its kernels
    with torch.no_grad(), pretended():
        assert lm.device == PLACES[0]
        assert {lm.out_weight(layer).device for layer in range(lm.n_layers)} == set(PLACES)
        pairs = {mode: (numbers_of(lm, mode, [8]), numbers_of(whole, mode, [8])) for mode in ("naive", "auto")}
        pairs["expanded"] = (numbers_of(lm, "expanded", [64]), numbers_of(whole, "expanded", [64]))
        pairs["weights"] = (parts_of(lm), parts_of(whole))
        found = {
            name: max(float((a.cpu().double() - b.double()).abs().max()) for a, b in zip(*both, strict=True))
            for name, both in pairs.items()
        }
        return {**found, "selfcheck": selfcheck(lm)["sweep_vs_naive"], "library": _of_the_library(family)}


def _of_the_library(family: str) -> float:
    """The same of all that the library makes of a relation: effects, a vector, what it does beside every control."""
    whole, parted = (replace(tiny_editable(family), fingerprint={"tokenizer_sha256": "characters"}) for _ in range(2))
    one, other = results_of(spread(parted)), results_of(whole)
    return max(float(np.nanmax(np.abs(a - b))) for a, b in zip(one, other, strict=True))


def results_of(lm: EditableModel) -> list[np.ndarray]:
    """Tables of a relation whose answer is its query twice."""
    relation = {"twice": [(letter, letter * 2) for letter in "abcdefghijklmnop"]}
    trials = fv.sample_trials(relation, lm, demos=2, fit=3, held_out=6, template="qa", seed=1)
    effects = fv.indirect_effects(lm, trials, compute=QUIET)
    vector = fv.function_vector(lm, effects["twice"], k=3)
    found = fv.evaluate(
        lm,
        vector,
        trials["twice"],
        effects=effects,
        layers="all",
        alphas=[1, 2],
        controls="all",
        compute=QUIET,
    )
    # Without tables of ranks and shares of right answers, where rounding may turn one over.
    tables = [effects["twice"].table, found.table, found.tables["contrasts"], found.tables["transfer"]]
    return [vector.values.cpu().numpy(), *(table.select_dtypes("number").to_numpy(float) for table in tables)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    _setup_privateuseone_for_python_backend()
    print(json.dumps({family: differences(family) for family in sys.argv[1:]}))
