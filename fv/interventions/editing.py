"""Editing a model while its user runs it: in any forward and any `generate`, with and without a cache."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fv.interventions.edit import Edit, checked_edits
from fv.interventions.hooks import Change, edit_place
from fv.interventions.place import Part, Place
from fv.interventions.positions import Positions, parse_positions
from fv.interventions.prompt_tracker import PromptTracker
from fv.models.language_model import LanguageModel

_AT_WORK: WeakKeyDictionary[nn.Module, list[Edit]] = WeakKeyDictionary()


def edits_at_work(model: nn.Module) -> tuple[Edit, ...]:
    """The edits that are active in a model now, in the order in which they were entered."""
    return tuple(_AT_WORK.get(model, ()))


def edited(
    lm: LanguageModel, edits: Edit | Sequence[Edit], positions: str = Positions.last_prompt
) -> AbstractContextManager[None]:
    """Edit a model for as long as the block lasts; see `EditableModel.edited`.

    Raises:
        ConfigError: an edit does not fit the model or would change nothing, or `positions` is unknown.
        ModelError: at the end of the block: nothing was edited inside it.
    """
    return _editing(lm, checked_edits(lm, edits), parse_positions(positions))


@contextmanager
def _editing(lm: LanguageModel, edits: tuple[Edit, ...], positions: Positions) -> Iterator[None]:
    tracker = PromptTracker(positions)
    with ExitStack() as stack:
        stack.enter_context(_registered(lm.model, edits))
        stack.enter_context(tracker.following(lm.model))
        # The hooks of a module run in the order in which they are set.
        for part in (part for edit in edits for part in edit.parts):
            for place in part.places:
                stack.enter_context(edit_place(lm, place, _changing(lm, part, place, tracker)))
        yield
        tracker.check_acted()


@contextmanager
def _registered(model: nn.Module, edits: tuple[Edit, ...]) -> Iterator[None]:
    before = edits_at_work(model)
    _AT_WORK[model] = [*before, *edits]
    try:
        yield
    finally:
        _AT_WORK[model] = [*before]


def _changing(lm: LanguageModel, edit: Edit, place: Place, tracker: PromptTracker) -> Change:
    """A function that changes hidden states, (batch, tokens, width), at the positions that are meant."""
    path, at_heads = place.path(lm), place.part == Part.heads
    heads = (lm.n_heads, lm.head_dim) if at_heads else ()

    def change(hidden: Tensor) -> Tensor:
        meant = tracker.meant(hidden, path)[..., None]  # (batch, tokens, 1)
        if not at_heads:
            return torch.where(meant, edit.change(place, hidden), hidden)
        by_head = hidden.unflatten(-1, heads)  # (batch, tokens, n_heads, head_dim)
        return torch.where(meant[..., None], edit.change(place, by_head), by_head).flatten(-2)

    return change
