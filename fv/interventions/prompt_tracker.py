"""The prompt tracker: it follows a model's passes, in `generate` and outside, and finds the prompt in each."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from torch import Tensor

from fv.errors import ModelError
from fv.interventions.positions import Columns, Positions, cached_tokens, columns_of, meant_positions


class Pass(NamedTuple):
    """A forward pass that is running.

    Attributes:
        prompt: number of columns of prompt with which its sequences begin.
        meant: (batch, tokens) bool, the positions at which edits act.
        cache: the cache that it was given.
        begins: whether it runs its sequences from their first column.
    """

    prompt: int
    meant: Tensor
    cache: Any
    begins: bool


class PromptTracker:
    """Finds the positions at which edits act in each pass of a model.

    In a call of the model's `generate`, the prompt is the input of that call. Elsewhere, a pass without cached tokens
    runs a new prompt, and a pass of one token on the cache of such a pass runs a generated token.
    """

    def __init__(self, positions: Positions) -> None:
        self.positions = positions
        self._running: Pass | None = None
        self._generation: _Generation | None = None
        self._ran, self._acted = False, False
        # The number of columns of prompt in each cache.
        self._prompts: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    @contextmanager
    def following(self, model: Any) -> Iterator[None]:
        """Follow every pass of a model, and every call of its `generate`."""
        names = list(inspect.signature(model.forward).parameters)

        def begin(_model: Any, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
            self._begin({**dict(zip(names, args, strict=False)), **kwargs})

        def end(_model: Any, _args: tuple[Any, ...], output: Any) -> None:
            self._end(output)

        before = vars(model).get("generate")
        handles = [
            model.register_forward_pre_hook(begin, with_kwargs=True),
            model.register_forward_hook(end, always_call=True),
        ]
        model.generate = self._followed(model.generate)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            del model.generate
            if before is not None:
                model.generate = before

    def meant(self, hidden: Tensor, path: str) -> Tensor:
        """The positions at which to edit `hidden`, (batch, tokens, width), in the pass that is running.

        Args:
            hidden: the hidden states to edit.
            path: the path of their module, for the message.

        Returns:
            (batch, tokens) bool, on the device of `hidden`.

        Raises:
            ModelError: no pass of the whole model is running, or `hidden` has other tokens than the pass.
        """
        if self._running is None:
            raise ModelError(f"{path} ran outside a forward of the whole model, where no prompt is known to edit.")
        meant = self._running.meant
        if meant.shape != hidden.shape[:2]:
            raise ModelError(f"{path} ran {tuple(hidden.shape[:2])} tokens in a pass of {tuple(meant.shape)}.")
        return meant.to(hidden.device)

    def check_acted(self) -> None:
        """Refuse to end a block in which no position was edited.

        Raises:
            ModelError: no pass had a position at which edits act, or there was no pass.
        """
        if not self._ran:
            raise ModelError("No forward of the model ran inside the block, so nothing was edited.")
        if not self._acted:
            raise ModelError(
                "positions='generated' met no generated token: none ran inside the block. The last token that is "
                "generated is never run, so ask for two at least."
            )

    def _followed(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(generate)
        def followed(*args: Any, **kwargs: Any) -> Any:
            if self._generation is not None:
                raise ModelError("generate was called inside generate, where its prompt is not the user's to edit.")
            self._generation = _Generation(*args, **kwargs)
            try:
                return generate(*args, **kwargs)
            finally:
                self._generation = None

        return followed

    def _begin(self, given: Mapping[str, Any]) -> None:
        columns, cache = columns_of(given), given.get("past_key_values")
        prompt = self._generation.next_pass(columns) if self._generation else self._prompt_of(columns, cache)
        meant = meant_positions(self.positions, columns, prompt)
        self._running = Pass(prompt, meant, cache, columns.start == 0)
        self._ran, self._acted = True, self._acted or bool(meant.any())

    def _end(self, output: Any) -> None:
        running, self._running = self._running, None
        if running is None or not running.begins:
            return
        cache = running.cache if running.cache is not None else getattr(output, "past_key_values", None)
        if cache is not None:
            self._prompts[cache] = running.prompt

    def _prompt_of(self, columns: Columns, cache: Any) -> int:
        """Number of columns of prompt in a pass outside `generate`."""
        if columns.start == 0:
            return columns.end
        prompt = self._prompts.get(cache)
        if prompt is None:
            raise ModelError(
                f"past_key_values holds {columns.start} tokens that no forward inside the block began, so it is not "
                "known where the prompt ends: run the whole prompt inside the block, or use generate."
            )
        if self.positions is not Positions.all and (columns.end - columns.start > 1 or columns.start < prompt):
            raise ModelError(
                f"A forward runs {columns.end - columns.start} tokens on a cache of {columns.start}, whose prompt has "
                f"{prompt}: after the prompt, tokens run one by one, or it is not known which are prompt."
            )
        return prompt


class _Generation:
    """A call of `generate`: the whole prompt runs first, then one more token in each pass.

    Args:
        inputs: its first argument, the prompts' token ids.
        *_args: its other arguments by position, which are not used.
        **given: its arguments by name.
    """

    def __init__(self, inputs: Any = None, *_args: Any, **given: Any) -> None:
        if n_cached := cached_tokens(given.get("past_key_values")):
            raise ModelError(
                f"generate was given past_key_values with {n_cached} tokens, which were not edited: inside the block, "
                "give it the whole prompt and no cache."
            )
        texts = (given.get("inputs_embeds"), inputs, given.get("input_ids"))
        prompt = next((text for text in texts if text is not None), None)
        # Without a prompt, generate begins with one token of its own.
        self._prompt = 1 if prompt is None else prompt.shape[1]
        self._due = self._prompt

    def next_pass(self, columns: Columns) -> int:
        """Number of columns of prompt in the next pass.

        Raises:
            ModelError: the pass runs neither the whole sequence up to one more token, nor that token alone.
        """
        if columns.end != self._due or columns.start not in (0, self._due - 1):
            raise ModelError(
                f"generate ran tokens {columns.start} to {columns.end} where all up to {self._due} was due: edits "
                "cannot follow assisted decoding, prompt lookup, prefill in chunks, or guidance by a second prompt."
            )
        self._due += 1
        return self._prompt
