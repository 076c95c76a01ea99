"""Results of makers as vectors, and other edits of makers with the model and relation that they belong to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fv.characters import visible
from fv.data.origin import Origin
from fv.errors import ConfigError, NoVectorError
from fv.interventions.edit import Edit
from fv.vectors.kinds import FILE, KINDS
from fv.vectors.names import source_name
from fv.vectors.options import Injected, LayerVectors, Option, Options
from fv.vectors.stream import Stream
from fv.vectors.vector import Vector


def made_vector(maker: str, q_id: str, options: Options, origin: Origin) -> Vector | None:
    """Vector that a maker's options inject; None if they are other edits.

    Args:
        maker: name of the maker.
        q_id: the relation.
        options: the options.
        origin: the model and the prompts that it was made with.

    Raises:
        ConfigError: the maker has the name of a kind of vectors.
    """
    if maker in KINDS and maker != FILE.name:
        raise ConfigError(f"{maker} names a kind of vectors; give the maker of this name another one.")
    if isinstance(options, Injected) or (isinstance(options, LayerVectors) and not options.replaces):
        return Vector(source_name(maker, q_id), maker, q_id, options.values, origin=origin)
    return None


def injected_vector(maker: str, q_id: str, options: Options, origin: Origin) -> Vector:
    """Vector that a maker's options inject; arguments as in `made_vector`.

    Raises:
        NoVectorError: the options are other edits.
    """
    vector = made_vector(maker, q_id, options, origin)
    if vector is None:
        raise NoVectorError(f"The edits of the maker {maker} are no injections of one vector, or of one per layer.")
    return vector


def relations_of(vectors: Iterable[Vector], makers: Mapping[str, object]) -> list[str]:
    """Relations of the vectors of makers, each once."""
    return [*dict.fromkeys(str(vector.source_qid) for vector in vectors if vector.kind in makers)]


@dataclass(frozen=True, eq=False, repr=False)
class MadeEdit:
    r"""Edits of a maker that are no injection of a vector, from `fv.make_vector`.

    Attributes:
        maker: name of the maker.
        source_qid: the relation.
        options: the edits.
        origin: the model and the prompts that they were made with.
        n_layers: the model's number of layers.

    Example:
        >>> made = fv.make_vector(lm, trials["antonym"], "set_heads", effects=effects, k=3)
        >>> with lm.edited(made.at(alpha=0.5)): text = lm.generate("Q: hot\nA:", max_new_tokens=1)
    """

    maker: str
    source_qid: str
    options: Options
    origin: Origin
    n_layers: int

    def at(self, *, layer: int | None = None, alpha: float | None = None) -> Edit:
        """Edit at a layer or strength, for `lm.edited` and engines.

        Args:
            layer: the layer, if the edit acts at one; else it has its own places.
            alpha: the strength, or the share of a replacement, if the edit has one; by default the maker's own.

        Raises:
            ConfigError: the layer is missing, out of range, or not for this edit; or alpha is, or is zero.
        """
        default = self.options.default
        if (layer is None) != (default.layer is None):
            due = "acts at one layer: give layer=…" if layer is None else "has its own layers: leave layer out"
            raise ConfigError(f"The edit of {self.maker} {due}.")
        if layer is not None and layer not in range(self.n_layers):
            raise ConfigError(f"layer={layer!r} must be from 0 to {self.n_layers - 1}.")
        if alpha is not None and default.alpha is None:
            raise ConfigError(f"The edit of {self.maker} has no strength: leave alpha out.")
        edit = self.options.edit(Option(layer, default.alpha if alpha is None else alpha), Stream())
        if edit is None:
            raise ConfigError(f"alpha={alpha!r} is no edit: leave it out, or give another alpha.")
        return edit

    def __repr__(self) -> str:
        return visible(f"MadeEdit({self.maker} of {self.source_qid}, {self.origin.model})")
