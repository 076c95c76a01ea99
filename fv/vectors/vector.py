"""Vector to inject: its values, its heads, and its strength at a cell (spec sections 1 and 2)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from fv.characters import visible
from fv.data.origin import Origin
from fv.errors import ConfigError
from fv.files import write_safetensors
from fv.interventions.edits import AddVector
from fv.interventions.engine import Cell, Head
from fv.markup import paragraph
from fv.vectors.algebra import Term, scaled_values, shared_origin, shown, sum_of_values
from fv.vectors.kinds import FILE, SUM, VectorKind, kind_of
from fv.vectors.names import vector_name
from fv.vectors.options import Injected, LayerVectors
from fv.vectors.values import flaw_of, norm_of

FORM = "function_vector"
"""Name of the file format, stored in the file."""


@dataclass(frozen=True, eq=False)
class Vector:
    r"""Vector to inject into the residual stream: one, or one per layer, of which a cell's layer takes its own.

    Vectors of one model can be added, subtracted and multiplied by numbers: `a + b`, `a - b`, `2 * a`.

    Attributes:
        source: its name without its k, `fv.vectors.names.source_name`.
        kind: name of its kind, `fv.vectors.kinds.kind_of`: `qid`, a relation's own best heads and means; `aie_qid`, the
            AIE's heads and a relation's means; `heads`, heads named by the caller; `global`, the AIE's heads and the
            mean over relations; `file`, a vector of unknown origin; `sum`, a sum or a multiple; or the name of the
            maker that made it.
        source_qid: the relation it represents, its in-domain relation; None if there is none.
        values: (d_model,); or (n_layers, d_model), one vector per layer.
        k: number of its heads; None if not known.
        of_several: whether the same source has vectors of other k, so that the name must contain k.
        heads: its heads, best first; empty if not known.
        origin: the model and the prompts it was measured with; None if not known.
        cell: the layer and alpha chosen for it; None if none was chosen.

    Example:
        >>> vector = fv.function_vector(lm, effects["antonym"], k=10)
        >>> with lm.edited(vector.at(layer=11, alpha=2.0)): text = lm.generate("Q: hot\nA:", max_new_tokens=1)
    """

    source: str
    kind: str
    source_qid: str | None
    values: Tensor
    k: int | None = None
    of_several: bool = False
    heads: tuple[Head, ...] = ()
    origin: Origin | None = None
    cell: Cell | None = None

    __array_ufunc__ = None  # a NumPy number times a vector is a vector

    @classmethod
    def of(cls, values: Tensor, name: str = FILE.name) -> "Vector":
        """Wrap values of your own as a vector.

        Args:
            values: (d_model,), or (n_layers, d_model).
            name: its name in tables.

        Raises:
            ConfigError: `values` is not such a tensor of finite numbers.
        """
        if flaw := flaw_of(values, layered=True):
            raise ConfigError(
                f"values is {flaw}; it must be a (d_model,) tensor of finite numbers, or (n_layers, d_model)."
            )
        return cls(name, FILE.name, None, values)

    @property
    def name(self) -> str:
        """Name of the vector, unique within a run."""
        return vector_name(self.source, self.k if self.of_several else None)

    @property
    def made_as(self) -> VectorKind:
        """Its kind, with its properties."""
        return kind_of(self.kind)

    def is_of_others(self, q_id: str) -> bool:
        """True if it is computed from other relations than `q_id`."""
        return self.made_as.of_others or (self.made_as.of_relation and self.source_qid != q_id)

    @property
    def is_layered(self) -> bool:
        """True if it has one vector per layer."""
        return self.values.ndim == 2

    def values_at(self, layer: int) -> Tensor:
        """Vector that is injected after block `layer`, (d_model,).

        Raises:
            ConfigError: it has one vector per layer, and none for this layer.
        """
        if not self.is_layered:
            return self.values
        if not 0 <= layer < len(self.values):
            raise ConfigError(f"{self.name} has vectors for the layers 0 to {len(self.values) - 1}, not for {layer}.")
        return self.values[layer]

    @property
    def norm(self) -> float:
        """Euclidean norm of the values.

        Raises:
            ConfigError: it has one vector per layer.
        """
        if self.is_layered:
            raise ConfigError(f"{self.name} has one vector per layer: give the layer, norm_at(layer).")
        return norm_of(self.values)

    def norm_at(self, layer: int) -> float:
        """Euclidean norm of the vector that is injected after block `layer`."""
        return norm_of(self.values_at(layer))

    def at(self, cell: Cell | None = None, *, layer: int | None = None, alpha: float = 1.0) -> AddVector:
        """Edit that adds `alpha` times the vector to the residual stream after a block.

        Args:
            cell: layer and alpha, such as the `cell` that `fv.evaluate` chose; by default the vector's own cell.
            layer: the block, if no cell is given.
            alpha: the factor, if no cell is given.

        Raises:
            ConfigError: neither a cell nor a layer is given, or both; a layer is below 0, or alpha is not finite.
        """
        if cell is None:
            cell = self.cell if layer is None else Cell(layer, alpha)
        elif layer is not None:
            cell = None
        if not isinstance(cell, tuple | list) or len(cell) != 2:
            raise ConfigError("at() takes a cell, such as result.cell, or layer=… and alpha=….")
        at_layer, factor = Cell(*cell)
        ending, made_by = (None, None) if self.origin is None else (self.origin.prompt_ending, self.origin.identity)
        return AddVector(at_layer, factor * self.values_at(at_layer), ending, made_by)

    def with_cell(self, cell: Cell) -> "Vector":
        """Copy with a chosen cell, which `at()` takes and `save` keeps.

        Example:
            >>> vector.with_cell(fv.Cell(11, 2.0)).at().layer
            11
        """
        return replace(self, cell=Cell(*cell))

    def options(self, cell: Cell, among: Sequence[Cell] = ()) -> Injected | LayerVectors:
        """Options of injecting it at `cell`, or at the best of the cells `among`."""
        return LayerVectors(self.values, cell, among) if self.is_layered else Injected(self.values, cell, among)

    def __add__(self, other: "Vector") -> "Vector":
        return self._plus(other, "+")

    def __sub__(self, other: "Vector") -> "Vector":
        return self._plus(other, "-")

    def __mul__(self, factor: float) -> "Vector":
        values = scaled_values(self.values, factor)
        return self._combined(f"{factor:g} * {shown(self.name)}", values, self.source_qid)

    __rmul__ = __mul__

    def __neg__(self) -> "Vector":
        return self._combined(f"-{shown(self.name)}", -self.values, self.source_qid)

    def _plus(self, other: "Vector", sign: str) -> "Vector":
        if not isinstance(other, Vector):
            return NotImplemented
        own, its = (Term(each.name, each.values, each.origin) for each in (self, other))
        values, origin = sum_of_values(own, its, sign), shared_origin(own, its)
        right = other.name if sign == "+" else shown(other.name)
        q_id = self.source_qid if self.source_qid == other.source_qid else None
        return replace(self._combined(f"{self.name} {sign} {right}", values, q_id), origin=origin)

    def _combined(self, name: str, values: Tensor, q_id: str | None) -> "Vector":
        return Vector(name, SUM.name, q_id, values, origin=self.origin)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the vector as safetensors, with its heads, origin and cell; `fv.load_vector` reads it back."""
        made_of: dict[str, Any] = {
            "form": FORM,
            **{name: getattr(self, name) for name in ("source", "kind", "source_qid", "k")},
            "heads": [list(head) for head in self.heads],
            "origin": None if self.origin is None else self.origin.as_json(),
        }
        if self.cell is not None:
            made_of["cell"] = list(self.cell)
        write_safetensors(Path(path), {"vector": self.values.detach().cpu().contiguous()}, made_of)

    def __repr__(self) -> str:
        of = f" of {self.source_qid}" if self.source_qid else ""
        made_of = f", {self.k} heads" if self.k else ""
        if self.is_layered:
            size = f"{len(self.values)} layers, {self.values.shape[1]} wide"
        else:
            size = f"{len(self.values)} wide, norm {self.norm:.3g}"
        return visible(f"Vector({self.name}{of}{made_of}, {size})")

    def _repr_html_(self) -> str:
        heads = ", ".join(f"{layer}.{head}" for layer, head in self.heads) or "not known"
        model = "not known" if self.origin is None else self.origin.model
        return paragraph(repr(self)) + paragraph(f"Heads: {heads}. Model: {model}.")
