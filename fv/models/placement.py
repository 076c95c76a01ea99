"""Placement of a model whose blocks are on several devices, or on disk until they run.

accelerate does the work: its hook on a module loads the module's weights, and moves its inputs to its device. This
module does what the hooks cannot: it checks device maps, and loads weights that are read outside a module's forward.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypedDict

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from fv.config import ModelConfig
from fv.errors import ModelError
from fv.models.spec import ModelSpec


@contextmanager
def at_hand(module: nn.Module) -> Iterator[None]:
    """Hold the weights of an offloaded module in memory, on the device where it runs; for others, do nothing."""
    if not any(parameter.is_meta for parameter in module.parameters(recurse=False)):
        yield
        return
    # Imported only here: it takes a while, and most models are on one device.
    from accelerate.utils import align_module_device  # type: ignore[import-untyped]

    with align_module_device(module):
        yield


def runs_on(module: nn.Module) -> torch.device | None:
    """The device to which accelerate moves a module's inputs; None for a module that it does not manage."""
    device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
    return None if device is None else torch.device(device)


class Placing(TypedDict, total=False):
    """Arguments of `from_pretrained` that place a model."""

    device_map: str | dict[str, int | str]
    max_memory: dict[int | str, int | str] | None
    offload_folder: str | None


def placement_of(model: ModelConfig, hf_config: Any, spec: ModelSpec) -> Placing:
    """Arguments of `from_pretrained` that place the model by its `device_map`; none without a map.

    Raises:
        ModelError: a device does not exist, or the map does not fit the model; says what is wrong.
    """
    if model.device_map is None:
        return {}
    memory = {_device(key): size for key, size in (model.max_memory or {}).items()}
    _check_devices(list(memory), model.called("max_memory"))
    if isinstance(model.device_map, dict):
        name = model.called("device_map")
        _check_devices(list(model.device_map.values()), name)
        from accelerate import init_empty_weights  # type: ignore[import-untyped]

        check_blocks(model.device_map, spec, name)
        with init_empty_weights():
            empty = AutoModelForCausalLM.from_config(hf_config, trust_remote_code=False)
        _check_modules(empty, model.device_map, name)
    return {
        "device_map": model.device_map,
        "max_memory": memory or None,
        "offload_folder": model.offload_folder,
    }


def check_blocks(device_map: Mapping[str, Any], spec: ModelSpec, name: str = "device_map") -> None:
    """Refuse a map that divides a block: its residual stream would be on two devices at once.

    Raises:
        ModelError: the map divides a block; names the part.
    """
    depth = len(spec.blocks.split(".")) + 1
    for path in device_map:
        if path.startswith(f"{spec.blocks}.") and len(path.split(".")) > depth:
            block = ".".join(path.split(".")[:depth])
            raise ModelError(f"{name} places {path}, a part of {block}. A block stays whole: place {block}.")


def _check_devices(devices: list[int | str], name: str) -> None:
    there = torch.accelerator.device_count()
    for device in devices:
        if isinstance(device, int) and device >= there:
            some = f"{there} of them, numbered from 0" if there else "none"
            raise ModelError(f"{name} names device {device}, but torch finds {some} here. There are also cpu and disk.")


def _check_modules(model: nn.Module, device_map: Mapping[str, int | str], name: str) -> None:
    """Refuse unknown modules, modules inside others, weights without a place, and tied weights in two places."""
    known = dict(model.named_modules())
    if unknown := [path for path in device_map if path not in known]:
        children = ", ".join(child for child, _ in model.named_children())
        raise ModelError(
            f"{name} names {_few(unknown)}, which {type(model).__name__} does not have. It has {children}, "
            "and modules inside them."
        )
    for path in device_map:
        if inside := [other for other in device_map if other != path and _covers(other, path)]:
            raise ModelError(f"{name} names {path} and also {inside[0] or 'the whole'}, which it is in.")
    # Buffers in a checkpoint need a place as well; the others follow their inputs.
    place = {
        weight: next((device for path, device in device_map.items() if _covers(path, weight)), None)
        for weight in model.state_dict()
    }
    if left := [weight for weight, device in place.items() if device is None]:
        raise ModelError(f"{name} places no {_few(left)}. Every weight needs a device: name its module too.")
    tied: dict[str, str] = getattr(model, "all_tied_weights_keys", {})
    for one, other in tied.items():
        if place.get(one) != place.get(other):
            raise ModelError(
                f"{name} places {one} on {place[one]} and {other} on {place[other]}, but they are one tensor "
                "in this model: give them the same device."
            )


def _covers(path: str, name: str) -> bool:
    return path == "" or name == path or name.startswith(f"{path}.")


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _device(name: str) -> int | str:
    """A device in accelerate's form: a number for an accelerator, else a name."""
    return int(name) if name.isdigit() else name
