"""The self-check: a proof at load, on short prompts, that a spec is right for the model. Never a silent no-op.

Each check states a property that only the right module has, measures it, and refuses the model with the family, the
module path and the number. The measurements go into the metadata.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fv.errors import EngineError, MemoryLackError, NotFiniteError, SpecError
from fv.files import JsonObject
from fv.interventions.edits import AddVector, ReplaceResidual, SetHeads
from fv.interventions.engine import Cell, Engine, Head
from fv.interventions.engines import make_engine
from fv.interventions.finite_check import FiniteCheck
from fv.interventions.fused import USED, prove_fused, short_prompt
from fv.interventions.halving import is_out_of_memory, lack_of_memory
from fv.interventions.hooks import Change, edit_block_output, edit_head_outputs, edit_place, residual_of
from fv.interventions.passes import in_engine_pass
from fv.interventions.place import Part, Place
from fv.interventions.selfcheck_limits import LONGEST, spans_of, tolerances_of
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt

SKIPPED: JsonObject = {"skipped": True}
"""The record of a self-check that was not made."""


@in_engine_pass
def selfcheck(lm: LanguageModel) -> JsonObject:
    """Prove that the spec names the right modules and that edits act there.

    Returns:
        the measurements by name (`fv.interventions.selfcheck_limits`).

    Raises:
        SpecError: a property does not hold; names the family, the module path and the number.
        NotFiniteError: the model returns numbers that are not finite; names its number format.
        MemoryLackError: a prompt of a few tokens does not fit in the free memory.
        ModelError: the model is being edited.
    """
    check = _SelfCheck(lm)
    try:
        return check.run()
    except (SpecError, MemoryLackError, NotFiniteError):
        raise
    except Exception as error:  # a wrong module fails in as many ways as there are modules
        if is_out_of_memory(error):
            raise lack_of_memory(lm) from error
        raise check.refused(lm.spec.blocks, f"{type(error).__name__}: {error}") from error


class _SelfCheck:
    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm
        self.ids = short_prompt(lm)
        self.others = [(5 + 13 * i) % lm.vocabulary for i in range(5)] + self.ids[-1:]
        self.layers = sorted({0, lm.n_layers // 2, lm.n_layers - 1})
        self.tolerance, self.engines_tolerance = tolerances_of(lm)

    def run(self) -> JsonObject:
        """Make all checks, each of which returns its measurement."""
        self.logits = self._logits()
        FiniteCheck(self.lm, [self._asked(self.ids)]).edited(self.logits.amax().reshape(1, 1), [None])
        layers = {str(layer): layer for layer in self.layers}
        report: JsonObject = {
            "identity_bit_equal": all(self.identity(layer) for layer in self.layers),
            "zeroed_head_max_change": {key: self.zeroed_head(layer) for key, layer in layers.items()},
            "sum_of_heads_error": {key: self.sum_of_heads(layer) for key, layer in layers.items()},
            "context_left_without_attention": self.carries_all_context(),
            "injection_read_back_exactly": all(self.read_back(layer) for layer in self.layers),
            "parallel_block_error": self.parallel(),
            "mlp_error": self.mlp(),
            "logits_error": self.readout(),
            USED: self.fused(),
            "sweep": self.lm.spec.sweep.value,
        }
        fast = replace(self.lm, selfcheck={USED: report[USED]})
        compared = {"sweep_vs_naive": self.engine(fast), "answers_vs_naive": self.answers(fast)}
        return report | compared | {"past_windows_vs_naive": self.past_windows(fast)}

    def identity(self, layer: int) -> bool:
        """Check that an identity edit leaves the logits bit-equal."""
        with edit_head_outputs(self.lm, layer, torch.clone):
            if not torch.equal(self._logits(), self.logits):
                raise self.refused(self._projection(layer), "an identity edit changes the logits")
        return True

    def zeroed_head(self, layer: int) -> float:
        """Check that zeroing one head's slice changes the logits."""
        columns = self.lm.head_slice(self.lm.n_heads - 1)

        def zero(head_outputs: Tensor) -> Tensor:
            edited = head_outputs.clone()
            edited[..., columns] = 0
            return edited

        with edit_head_outputs(self.lm, layer, zero):
            change = float((self._logits() - self.logits).abs().max())
        if not change > 0:
            raise self.refused(self._projection(layer), "zeroing a head changes no logit")
        return change

    def sum_of_heads(self, layer: int) -> float:
        """Check that the heads' parts and the bias sum to the output of attention, after its norm if there is one."""
        lm, projection = self.lm, self.lm.out_projs[layer]
        with _recorded(projection) as calls:
            self._logits()
        (inputs, output) = calls[0]
        if inputs[0].ndim != 3:
            raise self.refused(self._projection(layer), f"it is called with {inputs[0].ndim} axes, where 3 are due")
        heads = inputs[0][0, -1].unflatten(-1, (lm.n_heads, lm.head_dim))  # (n_heads, head_dim)
        total, expected = lm.projected(layer, heads), output[0, -1].double()
        error = float((total - expected).abs().max() / expected.abs().max())
        if lm.spec.post_norm:
            with _recorded(lm.norm_after(layer)) as calls:
                self._logits()
            added, expected = lm.added_by(layer, heads).sum(0), calls[0][1][0, -1].double()
            gain = lm.norm_gain(layer, total) * lm.out_bias(layer)
            error = max(error, float((added + gain - expected).abs().max() / expected.abs().max()))
        if not error <= self.tolerance:
            raise self.refused(self._projection(layer), f"the heads' sum is {error:.2g} away from the output")
        return error

    def carries_all_context(self) -> float:
        """Check that the projection of block 0 carries all that the last token knows of other positions.

        A query, key or value projection does not depend on other positions there. Without an MLP's projection, the
        block would still know them through attention.
        """
        path = self._projection(0)

        def seen(edit: Change | None) -> list[tuple[Tensor, Tensor]]:
            found = []
            for ids in (self.ids, self.others):
                with _recorded(self.lm.out_projs[0], edit) as projection, _recorded(self.lm.blocks[0]) as block:
                    self._logits(ids)
                residual = residual_of(block[0][1], self.lm.spec.blocks, self.lm.spec.tuple_output)
                found.append((projection[0][0][0][0, -1], residual[0, -1]))
            return found

        (inputs, block), (other_inputs, other_block) = seen(None)
        if not (inputs - other_inputs).abs().max() > self.tolerance * inputs.abs().max():
            raise self.refused(path, "its input does not depend on earlier tokens, so it holds no head outputs")
        whole = float((block - other_block).abs().max())
        (_, block), (_, other_block) = seen(torch.zeros_like)
        left = float((block - other_block).abs().max()) / whole
        if not left <= self.tolerance:
            raise self.refused(
                path, f"without its output, {left:.2g} of what the block knows of earlier tokens is left"
            )
        return left

    def read_back(self, layer: int) -> bool:
        """Check that the next block, or the final norm, reads exactly the residual stream with an added vector."""
        lm = self.lm
        reader = lm.blocks[layer + 1] if layer + 1 < lm.n_layers else lm.final_norm
        vector = torch.linspace(-1, 1, lm.d_model, device=lm.device, dtype=lm.dtype)
        with _recorded(reader) as before:
            self._logits()
        with edit_block_output(lm, layer, _adding(vector)), _recorded(reader) as after:
            self._logits()
        if not torch.equal(after[0][0][0], _adding(vector)(before[0][0][0])):
            raise self.refused(f"{lm.spec.blocks}.{layer}", "a vector added after it is not what is read next")
        return True

    def parallel(self) -> float:
        """Check that a vector added to block 0's attention output changes its MLP unless the block is parallel."""
        lm, spec = self.lm, self.lm.spec
        if spec.post_norm:
            return 0.0  # sequential by construction: `sum_of_heads` has compared the norm
        scale = getattr(lm.config, spec.attention_multiplier) if spec.attention_multiplier else 1.0
        with _recorded(lm.blocks[0]) as plain, _recorded(lm.out_projs[0]) as attention:
            self._logits()
        size = float(attention[0][1].abs().max())
        vector = size * torch.linspace(-1, 1, lm.d_model, device=lm.device, dtype=lm.dtype)
        with _recorded(lm.out_projs[0], _adding(vector)), _recorded(lm.blocks[0]) as moved:
            self._logits()
        before, after = (residual_of(calls[0][1], spec.blocks, spec.tuple_output) for calls in (plain, moved))
        error = float((after - before - scale * vector.to(after.device))[0, -1].abs().max()) / size
        if (error <= self.tolerance) is not lm.parallel:
            kind = "parallel" if lm.parallel else "sequential"
            raise self.refused(f"{spec.blocks}.0", f"it is not {kind}: its MLP answers to attention by {error:.2g}")
        return error

    def mlp(self) -> float | None:
        """Check that a block without its attention adds what its MLP's module returns: the opposite for the opposite,
        which no MLP does with its input. None without such a module: then MLPs cannot be edited.
        """
        if not self.lm.has_mlps:
            return None
        errors = []
        for layer in self.layers:
            none, one, opposite = (self._block_with_mlp(layer, factor) for factor in (0.0, 1.0, -1.0))
            errors.append(float((one + opposite - 2 * none).norm() / (one - none).norm()))
            if not errors[-1] <= self.tolerance:  # not a number if it changes nothing
                path = Place(layer, Part.mlp).path(self.lm)
                raise self.refused(path, f"a block does not add its output, which is {errors[-1]:.2g} away")
        return max(errors)

    def _block_with_mlp(self, layer: int, factor: float) -> Tensor:
        """The last token's output of a block, (d_model,) float64, without attention and with another output of its MLP.

        That is `factor` times a vector of the size of the block's input; or zeros if the module returns zeros without
        attention, as only attention does.
        """
        lm = self.lm
        with _recorded(lm.blocks[layer]) as calls:
            self._logits()
        size = factor * calls[0][0][0][0, -1].abs().max()
        vector = size * torch.linspace(-1, 1, lm.d_model, device=size.device, dtype=lm.dtype)

        def replaced(hidden: Tensor) -> Tensor:
            return hidden.abs().max().sign() * vector.to(hidden.device).expand(hidden.shape)

        with ExitStack() as stack:
            stack.enter_context(edit_place(lm, Place(layer, Part.attention), torch.zeros_like))
            stack.enter_context(edit_place(lm, Place(layer, Part.mlp), replaced))
            calls = stack.enter_context(_recorded(lm.blocks[layer]))
            self._logits()
        return residual_of(calls[0][1], lm.spec.blocks, lm.spec.tuple_output)[0, -1].double()

    def readout(self) -> float:
        """Check that final norm, unembedding and scaling turn the last residual stream into the model's logits."""
        lm = self.lm
        with _recorded(lm.final_norm) as calls:
            plain = self._logits()
        hidden = lm.final_norm(calls[0][0][0][:, -1])  # (1, d_model)
        found = lm.logits(hidden, slice(0, lm.vocabulary))[0]
        error = float((found.to(plain.device) - plain).abs().max() / plain.abs().max())
        if not error <= self.tolerance:
            raise self.refused(lm.spec.final_norm, f"logits made from it are {error:.2g} away from the model's")
        return error

    def fused(self) -> dict[str, float | None]:
        """Find the modules that give the same numbers if fused; the others run as they are, and are not refused."""
        return prove_fused(self.lm)

    def engine(self, fast_lm: LanguageModel) -> float:
        """Check that the fastest engine of the spec agrees with the naive one, on prompts of unequal length."""
        lm = self.lm
        heads, cells = [Head(layer, lm.n_heads - 1) for layer in self.layers], [Cell(at, 1.0) for at in self.layers]
        return self._off_naive(fast_lm, [self._asked(self.ids), self._asked(self.ids[2:])], heads, cells)

    def past_windows(self, fast_lm: LanguageModel) -> float | None:
        """Check the same on a prompt longer than the windows and chunks that the configuration names.

        None if there are none, or if the engine refuses prompts of this length.
        """
        lm = self.lm
        spans = [span for span in spans_of(lm.config) if span <= LONGEST]
        length = min(max(spans, default=0) + 2, lm.max_tokens)
        if length <= len(self.ids):
            return None
        ids = [(7 + 11 * i) % lm.vocabulary for i in range(length)]
        try:
            return self._off_naive(fast_lm, [self._asked(ids)], [Head(0, lm.n_heads - 1)], [Cell(0, 1.0)])
        except EngineError:
            return None

    def _off_naive(self, fast_lm: LanguageModel, prompts: list[Prompt], heads: list[Head], cells: list[Cell]) -> float:
        """Largest difference of the fast engine from the naive one, in log p."""
        lm = self.lm
        # Values that are large enough to matter at any scale of the model, and different in every head.
        values = torch.linspace(-2, 2, lm.n_layers * lm.n_heads * lm.head_dim)
        values = values.view(lm.n_layers, lm.n_heads, lm.head_dim)
        vectors = torch.linspace(-1, 1, lm.d_model).expand(len(prompts), 1, -1)

        def numbers(engine: Engine) -> Tensor:
            patched = engine.patch_heads(prompts, values, heads)
            injected = (scores.logprob for scores in engine.inject(prompts, vectors, cells))
            return torch.cat([part.flatten() for part in (patched.unpatched, patched.patched, *injected)])

        fast, naive = make_engine(fast_lm, "auto", max_rows=64), make_engine(lm, "naive", max_rows=64)
        difference = float((numbers(fast) - numbers(naive)).abs().max())
        if not difference <= self.engines_tolerance:
            raise self.refused(
                lm.spec.blocks,
                f"the {lm.spec.sweep.value} engine is {difference:.2g} away from the naive loop in log p, on prompts "
                f"of {max(len(prompt.token_ids) for prompt in prompts)} tokens at most; "
                "this family needs another `sweep` in its spec",
            )
        return difference

    def answers(self, fast_lm: LanguageModel) -> float:
        """Check that the engines agree on answers of two tokens, under every kind of edit."""
        lm, ids = self.lm, self.ids
        prompts = [Prompt(tuple(ids), (ids[0], ids[2]), (ids[1],)), Prompt(tuple(ids[2:]), (ids[1], ids[0]))]
        vector = torch.linspace(-1, 1, lm.d_model)
        values = torch.linspace(-2, 2, lm.n_layers * lm.n_heads * lm.head_dim)
        heads = tuple(Head(layer, 0) for layer in self.layers)
        edits = [
            None,
            AddVector(self.layers[0], vector),
            ReplaceResidual(self.layers[-1], vector, 0.5),
            SetHeads(heads, values.view(lm.n_layers, lm.n_heads, lm.head_dim)),
        ]
        engines = (make_engine(lm, "naive", 64), make_engine(fast_lm, "auto", 64))
        both = ([read.scores.logprob for read in engine.answers(prompts, edits)] for engine in engines)
        differences = [(one - other).abs().max() for one, other in zip(*both, strict=True)]
        difference = float(torch.stack(differences).max())
        if not difference <= self.engines_tolerance:
            raise self.refused(
                lm.spec.blocks,
                f"the {lm.spec.sweep.value} engine is {difference:.2g} away from the naive loop in log p of answers",
            )
        return difference

    def _asked(self, ids: list[int]) -> Prompt:
        """A prompt with an arbitrary target."""
        return Prompt(tuple(ids), (ids[0],), name="a prompt of the self-check")

    def _logits(self, ids: list[int] | None = None) -> Tensor:
        tokens = torch.tensor([ids or self.ids], device=self.lm.device)
        return self.lm.model(input_ids=tokens, use_cache=False, logits_to_keep=1).logits[0, -1]

    def _projection(self, layer: int) -> str:
        return f"{self.lm.spec.blocks}.{layer}.{self.lm.spec.out_proj}"

    def refused(self, path: str, reason: str) -> SpecError:
        spec = self.lm.spec
        return SpecError(
            f"Self-check of the spec {spec.name} at {path}: {reason}. The spec does not fit this model "
            f"(blocks {spec.blocks}, projection {spec.out_proj}, norm {spec.final_norm})."
        )


def _adding(vector: Tensor) -> Change:
    """An edit that adds a vector, on the device of the block."""
    return lambda hidden: vector.to(hidden.device) + hidden


@contextmanager
def _recorded(module: nn.Module, edit: Change | None = None) -> Iterator[list[tuple[tuple[Any, ...], Any]]]:
    """Record the (arguments, output) of each call of a module; `edit` replaces its output."""
    calls: list[tuple[tuple[Any, ...], Any]] = []

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, object], output: Any) -> Any:
        calls.append((args or tuple(kwargs.values()), output))
        return None if edit is None else edit(output)

    handle = module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()
    if not calls:
        raise SpecError(f"{type(module).__name__}, which the spec names, takes no part in the model's forward pass.")
