"""The language model: a loaded causal LM together with the modules that its spec names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from fv.errors import ModelError, SpecError
from fv.files import JsonObject
from fv.models.placement import at_hand, runs_on
from fv.models.spec import ModelSpec
from fv.models.token_ids import token_ids


def positions_of(config: Any) -> int:
    """Most tokens that a model of a Hugging Face configuration has positions for; 2**31 if it names no limit."""
    return int(getattr(text_config(config), "max_position_embeddings", 2**31))


def text_config(config: Any) -> Any:
    """The part of a Hugging Face configuration for text: the `text_config` of a multimodal model."""
    return config.get_text_config(decoder=True)


def weights_of(fingerprint: Mapping[str, str]) -> dict[str, str]:
    """The part of a model's fingerprint that identifies it wherever its files are: the digests."""
    return {key: value for key, value in fingerprint.items() if key.endswith("sha256")}


@dataclass(frozen=True, eq=False, repr=False)
class LanguageModel:
    """A causal LM, its tokenizer, and the modules of its heads.

    Attributes:
        model: a Hugging Face `...ForCausalLM`, in its owner's mode (`fv.models.engine_mode`).
        tokenizer: its tokenizer.
        spec: the module paths of its family.
        name: short name used in file names and tables.
        fingerprint: identifies weights and tokenizer: source, revision, SHA-256 of the files.
        selfcheck: measurements of the self-check at load (`fv.interventions.selfcheck`).
    """

    model: Any
    tokenizer: Any
    spec: ModelSpec
    name: str
    fingerprint: dict[str, str]
    selfcheck: JsonObject = field(default_factory=dict)

    def __repr__(self) -> str:
        shape = f"{self.n_layers} layers x {self.n_heads} heads, d_model {self.d_model}"
        proved = "not proved" if "skipped" in self.selfcheck or not self.selfcheck else "proved"
        return f"{type(self).__name__}({self.name}, {self.spec.name}: {shape}, {self.dtype} on {self.device}, {proved})"

    @cached_property
    def blocks(self) -> list[nn.Module]:
        """The decoder blocks, first to last."""
        blocks = self._module(self.model, self.spec.blocks)
        if not isinstance(blocks, nn.ModuleList):
            raise SpecError(
                f"{self.spec.blocks} is a {type(blocks).__name__}: the spec {self.spec.name} needs a list of blocks."
            )
        return list(blocks)

    @cached_property
    def out_projs(self) -> list[nn.Module]:
        """The attention output projection of each block."""
        return [self._module(block, self.spec.out_proj) for block in self.blocks]

    @cached_property
    def has_mlps(self) -> bool:
        """True if the spec names a module that every block has and whose output is that of its MLP."""
        try:
            return bool(self.spec.mlp) and bool([self._module(block, self.spec.mlp) for block in self.blocks])
        except SpecError:
            return False

    @property
    def mlps(self) -> list[nn.Module]:
        """The module of each block whose output is that of its MLP.

        Raises:
            SpecError: the spec names none, or a block has none at its path.
        """
        if not self.has_mlps:
            raise SpecError(
                f"The spec {self.spec.name} names no module (mlp) that every block has and whose output is that of its "
                f"MLP, so MLPs of {self.name} cannot be edited: edit the residual stream, the attention or its heads."
            )
        return [self._module(block, self.spec.mlp) for block in self.blocks]

    @cached_property
    def final_norm(self) -> nn.Module:
        """The norm between the last block and the unembedding."""
        return self._module(self.model, self.spec.final_norm)

    @property
    def unembedding(self) -> Any:
        """The LM head, from `d_model` to the vocabulary."""
        return self.model.get_output_embeddings()

    @property
    def config(self) -> Any:
        """The Hugging Face configuration of the decoder."""
        return text_config(self.model.config)

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks."""
        return len(self.blocks)

    @cached_property
    def n_heads(self) -> int:
        """Number of attention heads in a layer."""
        return int(self.config.num_attention_heads)

    @cached_property
    def head_dim(self) -> int:
        """Width of one head's output: the projection's input width over the heads, never `hidden_size / n_heads`."""
        inputs = self._out_shape[1]
        width, rest = divmod(inputs, self.n_heads)
        if rest:
            raise SpecError(
                f"{self.spec.blocks}.0.{self.spec.out_proj} has {inputs} inputs, "
                f"which {self.n_heads} heads do not divide: the spec {self.spec.name} does not fit this model."
            )
        return width

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self._out_shape[0]

    @property
    def _out_shape(self) -> torch.Size:
        """(d_model, n_heads * head_dim), without reading the weight, which is in a file if it is offloaded."""
        weight: Tensor = self.out_projs[0].weight  # type: ignore[assignment]
        if not weight.dtype.is_floating_point:
            return self.out_weight(0).shape
        return weight.T.shape if self.spec.conv1d else weight.shape

    @property
    def device(self) -> torch.device:
        """The device of token ids; with a device map, blocks and the unembedding may be on others."""
        return runs_on(self.model.get_input_embeddings()) or self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of weights and activations."""
        return self.model.dtype

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the model can predict."""
        return int(self.unembedding.weight.shape[0])

    @property
    def parallel(self) -> bool:
        """True if a block's MLP reads the block's input instead of the attention's result."""
        declared = self.spec.parallel
        return bool(getattr(self.config, declared)) if isinstance(declared, str) else declared

    @cached_property
    def max_tokens(self) -> int:
        """Most tokens of a prompt that the model has positions for."""
        return positions_of(self.model.config)

    def out_weight(self, layer: int) -> Tensor:
        """W_O of `layer`, (d_model, n_heads * head_dim) however the module stores it, on the device where it runs."""
        module = self.out_projs[layer]
        with at_hand(module):
            weight = module.weight.detach()  # type: ignore[operator]
        if weight.dtype.is_floating_point:
            return weight.T if self.spec.conv1d else weight
        if layer not in self._unpacked:
            self._unpacked[layer] = self._unpack(layer)
        return self._unpacked[layer]

    @cached_property
    def _unpacked(self) -> dict[int, Tensor]:
        """W_O of each quantised projection that was used: small, and kept for as long as the model lives."""
        return {}

    def _unpack(self, layer: int) -> Tensor:
        """W_O of a quantised projection: its output for the identity matrix, without the bias."""
        module = self.out_projs[layer]
        width: int = module.in_features  # type: ignore[assignment]
        identity = torch.eye(width, device=self.device, dtype=self.dtype)
        with torch.no_grad():
            return (module(identity) - self.out_bias(layer).to(self.dtype)).T

    def added_by(self, layer: int, head_outputs: Tensor, at: Tensor | None = None) -> Tensor:
        """The part that each head of a layer adds to the residual stream.

        The projection is linear, so its output is a sum over heads. If a norm follows before the addition (post-norm
        families), its scale is the one for all heads together at the outputs `at`. With this scale fixed, the sum over
        heads and the projection's bias is the output of the norm.

        Args:
            layer: the layer.
            head_outputs: (..., n_heads, head_dim).
            at: (n_heads, head_dim); None for `head_outputs`, which must then have this shape.

        Returns:
            (..., n_heads, d_model), float64.
        """
        weight = self.out_weight(layer).double().unflatten(1, (self.n_heads, self.head_dim))
        parts = torch.einsum("dhk,...hk->...hd", weight, head_outputs.to(weight.device).double())
        if self.spec.post_norm:
            parts = parts * self.norm_gain(layer, self.projected(layer, head_outputs if at is None else at))
        if self.spec.attention_multiplier:
            parts = parts * getattr(self.config, self.spec.attention_multiplier)
        return parts

    def projected(self, layer: int, head_outputs: Tensor) -> Tensor:
        """The projection of a layer's head outputs, (n_heads, head_dim), with its bias: (d_model,), float64."""
        weight = self.out_weight(layer).double()
        return weight @ head_outputs.to(weight.device).double().flatten() + self.out_bias(layer)

    def out_bias(self, layer: int) -> Tensor:
        """The projection's bias, (d_model,), float64; a scalar zero if it has none."""
        module = self.out_projs[layer]
        with at_hand(module):
            bias = getattr(module, "bias", None)
        # A scalar on the CPU can be added to tensors on any device.
        return torch.zeros((), dtype=torch.float64) if bias is None else bias.detach().double()

    def norm_after(self, layer: int) -> nn.Module:
        """The norm after a layer's attention output, in a post-norm family."""
        return self._module(self.blocks[layer], self.spec.post_norm)

    @torch.no_grad()
    def norm_gain(self, layer: int, attended: Tensor) -> Tensor:
        """The gain g, norm(x) = g * x at x = `attended`, (d_model,): the norm's weight over x's root mean square."""
        norm = self.norm_after(layer)

        def normed(x: Tensor) -> Tensor:
            return norm(x.to(self.dtype)).double()

        # The norm of ones is its weight, up to a constant; the constant and the root mean square come from norm(x).
        weight = normed(torch.ones_like(attended))
        attended = attended.to(weight.device)
        direction = weight * attended
        return weight * (normed(attended) @ direction) / (direction @ direction)

    def logits(self, hidden: Tensor, tokens: slice | Tensor) -> Tensor:
        """Logits, (n, n_tokens), of a range of the vocabulary or of token ids, (n_tokens,).

        `hidden` is (n, d_model), after the final norm.
        """
        head = self.unembedding
        with at_hand(head):
            weight, bias = head.weight[tokens], None if head.bias is None else head.bias[tokens]
        return self._finished(linear(hidden.to(weight.device), weight, bias))

    def logits_of(self, hidden: Tensor, token_ids: Tensor) -> Tensor:
        """The logit of one token for each row: `hidden` is (n, d_model), `token_ids` and the result are (n,)."""
        head = self.unembedding
        with at_hand(head):
            token_ids = token_ids.to(head.weight.device)
            weight, bias = head.weight[token_ids], None if head.bias is None else head.bias[token_ids]
        # Rounded only once, as in the matrix product of all logits: rounded products would create ties.
        exact = torch.promote_types(weight.dtype, torch.float32)
        logits = (hidden.to(weight.device, exact) * weight.to(exact)).sum(-1).to(weight.dtype)
        return self._finished(logits if bias is None else logits + bias)

    def _finished(self, logits: Tensor) -> Tensor:
        """Logits with the scaling and soft-capping of the family after its unembedding."""
        spec, config = self.spec, self.config
        if spec.logit_multiplier:
            logits = logits * getattr(config, spec.logit_multiplier)
        if spec.logit_divisor:
            logits = logits / getattr(config, spec.logit_divisor)
        cap = getattr(config, spec.logit_softcap) if spec.logit_softcap else None
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def head_slice(self, head: int) -> slice:
        """The columns of the projection's input that belong to `head`."""
        return slice(head * self.head_dim, (head + 1) * self.head_dim)

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """Token ids of `text`, as a plain list (`fv.models.token_ids`).

        Raises:
            ModelError: the model does not embed a token.
        """
        return self.known(token_ids(self.tokenizer, [text], add_special_tokens)[0])

    def known(self, ids: list[int]) -> list[int]:
        """Return the token ids, if the model embeds all of them.

        Raises:
            ModelError: a token was added to the tokenizer but not to the model.
        """
        rows = self.model.get_input_embeddings().num_embeddings
        if (highest := max(ids, default=0)) >= rows:
            token = self.tokenizer.convert_ids_to_tokens(highest)
            raise ModelError(
                f"The tokenizer of {self.name} gives the token {token!r} (id {highest}), and the model embeds {rows} "
                "tokens: it was added to the tokenizer alone. Give the model rows for it, with "
                "model.resize_token_embeddings(len(tokenizer)), or leave it out of the texts."
            )
        return ids

    def _module(self, root: nn.Module, path: str) -> Any:
        try:
            return attrgetter(path)(root)
        except AttributeError as error:
            raise SpecError(
                f"{type(root).__name__} has no module {path!r}, which the spec {self.spec.name} names "
                f"(blocks {self.spec.blocks}, projection {self.spec.out_proj}, norm {self.spec.final_norm})."
            ) from error
