"""Hooks that edit or record a running model, as context managers that refuse to be silent no-ops.

If a hook never ran, the numbers are wrong, so each context manager counts its calls, and raises a `ModelError` if its
block ends normally without any.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fv.errors import ModelError
from fv.interventions.place import Part, Place
from fv.models.language_model import LanguageModel

Change = Callable[[Tensor], Tensor]
"""A function of hidden states, which returns others of the same shape."""


@contextmanager
def edit_head_outputs(lm: LanguageModel, layer: int, change: Change) -> Iterator[None]:
    """Replace the head outputs of `layer` by `change(head_outputs)`.

    `change` maps the projection's input (batch, positions, n_heads * head_dim) to a tensor of the same shape.

    Raises:
        ModelError: the projection was never called with a tensor inside the block.
    """
    with _hooked(lm.out_projs[layer], change, f"{lm.spec.blocks}.{layer}.{lm.spec.out_proj}", on_input=True):
        yield


@contextmanager
def edit_block_output(lm: LanguageModel, layer: int, change: Change) -> Iterator[None]:
    """Replace the residual stream after block `layer`, (batch, positions, d_model), by `change(residual)`.

    Raises:
        ModelError: the block was never called, or returned something that holds no residual stream.
    """
    with _hooked(lm.blocks[layer], change, f"{lm.spec.blocks}.{layer}", on_input=False, is_tuple=lm.spec.tuple_output):
        yield


@contextmanager
def edit_place(lm: LanguageModel, place: Place, change: Change) -> Iterator[None]:
    """Replace the hidden states at a place, (batch, positions, width), by `change(hidden)`; heads are in one width.

    Raises:
        ModelError: the module of the place was never called, or holds no such hidden states.
        SpecError: the family of the model has no module at the place.
    """
    layer, part = place
    if part == Part.heads:
        hooked = edit_head_outputs(lm, layer, change)
    elif part == Part.residual:
        hooked = edit_block_output(lm, layer, change)
    elif part == Part.attention:
        hooked = _hooked(lm.out_projs[layer], change, place.path(lm), on_input=False)
    else:
        hooked = _hooked(lm.mlps[layer], change, place.path(lm), on_input=False, is_tuple=None)
    with hooked:
        yield


@contextmanager
def record_head_outputs(
    lm: LanguageModel, layers: Sequence[int], last: Tensor | None, into: dict[int, Tensor]
) -> Iterator[None]:
    """Store the last tokens' head outputs of each of `layers`, (batch, n_heads * head_dim), in `into[layer]`.

    They stay on the device of their block, like the residuals of `record_residuals`. `last` is (batch,), the position
    of each last token; None means the end of the sequence.

    Raises:
        ModelError: a projection was never called.
    """

    def recorder(layer: int) -> Change:
        def record(head_outputs: Tensor) -> Tensor:
            batch, positions, _ = head_outputs.shape
            at = torch.full((batch,), positions - 1) if last is None else last.to(head_outputs.device)
            into[layer] = head_outputs[torch.arange(batch), at].detach()
            return head_outputs

        return record

    handles = [lm.out_projs[layer].register_forward_pre_hook(_pre_hook(recorder(layer), [0])) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if missing := sorted(set(layers) - set(into)):
        raise ModelError(f"{lm.spec.blocks}.*.{lm.spec.out_proj} was never called in layers {missing}.")


@contextmanager
def record_residuals(lm: LanguageModel, into: dict[int, Tensor]) -> Iterator[None]:
    """Store the last position's residual stream after each block, (batch, d_model), in `into[layer]`.

    Raises:
        ModelError: a block was never called, or returned something that holds no residual stream.
    """

    def recorder(layer: int) -> Change:
        def record(residual: Tensor) -> Tensor:
            into[layer] = residual[:, -1].detach()
            return residual

        return record

    with ExitStack() as stack:
        for layer in range(lm.n_layers):
            stack.enter_context(edit_block_output(lm, layer, recorder(layer)))
        yield


class BlockCall(NamedTuple):
    """The arguments of a block's call: its input, (batch, positions, d_model), and the others."""

    hidden: Tensor
    args: tuple[object, ...]
    kwargs: dict[str, object]


@contextmanager
def noted_calls(lm: LanguageModel) -> Iterator[list[BlockCall]]:
    """Make each block record its arguments (positions, masks) and return its input: nothing is computed.

    Raises:
        ModelError: the blocks were not called once each.
    """
    calls: list[BlockCall] = []
    with ExitStack() as stack:
        for block in lm.blocks:
            stack.enter_context(_noting(block, calls, lm.spec.tuple_output))
        yield calls
    if len(calls) != lm.n_layers:
        raise ModelError(f"{lm.spec.blocks} ran {len(calls)} blocks, where {lm.n_layers} are due.")


@contextmanager
def _noting(block: nn.Module, calls: list[BlockCall], is_tuple: bool) -> Iterator[None]:
    def note(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        calls.append(BlockCall(hidden, args, kwargs))
        return (hidden,) if is_tuple else hidden

    # With a device map, the block has a forward of accelerate's, which moves the arguments.
    before = vars(block).get("forward")
    block.forward = note
    try:
        yield
    finally:
        if before is None:
            del block.forward
        else:
            block.forward = before


def residual_of(output: Any, path: str, is_tuple: bool) -> Tensor:
    """The residual stream in a block's output: the tensor itself or, if `is_tuple`, the first item of a tuple.

    Raises:
        ModelError: the output is of the other kind, or not a (batch, positions, d_model) tensor.
    """
    residual = output[0] if is_tuple and isinstance(output, tuple) and output else output
    if isinstance(output, tuple) is not is_tuple or not isinstance(residual, Tensor) or residual.ndim != 3:
        due = "a tuple that starts with a" if is_tuple else "a"
        raise ModelError(
            f"{path} returned {type(output).__name__}, where {due} (batch, positions, d_model) tensor is due."
        )
    return residual


@contextmanager
def _hooked(
    module: nn.Module, change: Change, path: str, *, on_input: bool, is_tuple: bool | None = False
) -> Iterator[None]:
    """Change the input or the output of a module; `is_tuple` says whether the output is a tuple, None for either."""
    calls = [0]
    if on_input:
        handle = module.register_forward_pre_hook(_pre_hook(change, calls))
    else:

        def post_hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            calls[0] += 1
            wrapped = isinstance(output, tuple) if is_tuple is None else is_tuple
            edited = change(residual_of(output, path, wrapped))
            return (edited, *output[1:]) if isinstance(output, tuple) else edited

        handle = module.register_forward_hook(post_hook)
    try:
        yield
    finally:
        handle.remove()
    if not calls[0]:
        raise ModelError(f"The hook on {path} never ran: this module takes no part in the model's forward pass.")


def _pre_hook(change: Change, calls: list[int]) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if not args or not isinstance(args[0], Tensor):
            raise ModelError(f"{type(module).__name__} was not called with a tensor first, so it cannot be edited.")
        calls[0] += 1
        return (change(args[0]), *args[1:])

    return hook
