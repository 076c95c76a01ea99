"""Vector to inject: its values, its heads, and its strength at a cell (spec sections 1 and 2)."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from torch import Tensor

from fv.characters import visible
from fv.data.origin import Origin
from fv.errors import ConfigError
from fv.files import write_safetensors
from fv.interventions.edits import AddVector
from fv.interventions.engine import Cell, Head
from fv.markup import paragraph
from fv.vectors.names import FILE, vector_name
from fv.vectors.values import flaw_of

FORM = "function_vector"
"""Name of the file format, stored in the file."""


@dataclass(frozen=True, eq=False)
class Vector:
    r"""Vector to inject into the residual stream.

    Attributes:
        source: its name without its k, `fv.vectors.names.source_name`.
        kind: origin of its heads and means: `qid`, a relation's own best heads and means; `aie_qid`, the AIE's heads
            and a relation's means; `heads`, heads named by the caller; `global`, the AIE's heads and the mean over
            relations; `file`, a vector of unknown origin.
        source_qid: the relation it represents, its in-domain relation; None if there is none.
        values: (d_model,).
        k: number of its heads; None if not known.
        of_several: whether the same source has vectors of other k, so that the name must contain k.
        heads: its heads, best first; empty if not known.
        origin: the model and the prompts it was measured with; None if not known.

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

    @classmethod
    def of(cls, values: Tensor, name: str = FILE) -> "Vector":
        """Wrap values of your own as a vector.

        Args:
            values: (d_model,).
            name: its name in tables.

        Raises:
            ConfigError: `values` is not a (d_model,) tensor of finite numbers.
        """
        if flaw := flaw_of(values):
            raise ConfigError(f"values is {flaw}; it must be a (d_model,) tensor of finite numbers.")
        return cls(name, FILE, None, values)

    @property
    def name(self) -> str:
        """Name of the vector, unique within a run."""
        return vector_name(self.source, self.k if self.of_several else None)

    @property
    def norm(self) -> float:
        """Euclidean norm of the values."""
        return norm_of(self.values)

    def at(self, cell: Cell | None = None, *, layer: int | None = None, alpha: float = 1.0) -> AddVector:
        """Edit that adds `alpha` times the vector to the residual stream after a block.

        Args:
            cell: layer and alpha, such as the `cell` that `fv.evaluate` chose.
            layer: the block, if no cell is given.
            alpha: the factor, if no cell is given.

        Raises:
            ConfigError: neither a cell nor a layer is given, or both; a layer is below 0, or alpha is not finite.
        """
        if cell is None and layer is not None:
            cell = Cell(layer, alpha)
        elif layer is not None or not isinstance(cell, tuple | list) or len(cell) != 2:
            raise ConfigError("at() takes a cell, such as result.cell, or layer=… and alpha=….")
        at_layer, factor = Cell(*cell)
        ending, made_by = (None, None) if self.origin is None else (self.origin.prompt_ending, self.origin.identity)
        return AddVector(at_layer, factor * self.values, ending, made_by)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the vector as safetensors, with its heads and origin as metadata; `fv.load_vector` reads it back."""
        made_of = {
            "form": FORM,
            **{name: getattr(self, name) for name in ("source", "kind", "source_qid", "k")},
            "heads": [list(head) for head in self.heads],
            "origin": None if self.origin is None else self.origin.as_json(),
        }
        write_safetensors(Path(path), {"vector": self.values.detach().cpu().contiguous()}, made_of)

    def __repr__(self) -> str:
        of = f" of {self.source_qid}" if self.source_qid else ""
        made_of = f", {self.k} heads" if self.k else ""
        return visible(f"Vector({self.name}{of}{made_of}, {len(self.values)} wide, norm {self.norm:.3g})")

    def _repr_html_(self) -> str:
        heads = ", ".join(f"{layer}.{head}" for layer, head in self.heads) or "not known"
        model = "not known" if self.origin is None else self.origin.model
        return paragraph(repr(self)) + paragraph(f"Heads: {heads}. Model: {model}.")


def strength(vector: Tensor, cell: Cell, residual_norm: Tensor | None) -> float:
    """Factor by which `vector` is multiplied at a cell.

    Args:
        vector: (d_model,).
        cell: layer and alpha.
        residual_norm: mean norm of the residual stream after each block, (n_layers,), if alpha is relative to it
            (`AlphaUnit.residual`); None if alpha itself is the factor.
    """
    if residual_norm is None:
        return cell.alpha
    norm = norm_of(vector)
    return cell.alpha * float(residual_norm[cell.layer]) / norm if norm else 0.0


def norm_of(vector: Tensor) -> float:
    """Euclidean norm of a vector."""
    return float(vector.double().norm())
