"""Options: the edits that dev trials choose among for one candidate, such as cells, strengths or shares.

A kind of options is a frozen dataclass, here or in a package of your own. A search needs to know no kind: it runs the
edit of each of `choices`, and `edit` makes the edit of the best one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fv.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from fv.interventions.edits import AddVector, Edit, LastTokenEdit
    from fv.interventions.engine import Cell
    from fv.vectors.stream import Stream


class Option(NamedTuple):
    """One option, as the columns of tables record it.

    Attributes:
        layer: the block after which a vector is injected; None if the option is no choice of a layer.
        alpha: the strength or the share; None if there is none.

    Example:
        >>> Option(alpha=0.5)
        Option(layer=None, alpha=0.5)
    """

    layer: int | None = None
    alpha: float | None = None


NO_OPTION = Option()
"""The option of an edit with nothing to choose."""


@dataclass(frozen=True, eq=False)
class Options(ABC):
    """The edits of one candidate. The fields of a subclass must decide the edits, as results are stored under them."""

    @property
    def default(self) -> Option:
        """Option that is run if nothing is chosen, because there are no choices or no dev trials."""
        return NO_OPTION

    @property
    def choices(self) -> Sequence[Option]:
        """Options that dev trials choose among, the first of equally good ones; empty if there is nothing to choose."""
        return ()

    @property
    def without(self) -> Option | None:
        """Option that stands for no edit, chosen if no other is better than the unedited prompt; None to exclude it."""
        return self.choices[0]._replace(alpha=0.0) if self.choices else None

    @property
    def is_edit(self) -> bool:
        """True if prompts are edited at all."""
        return True

    @abstractmethod
    def edit(self, option: Option, stream: Stream) -> LastTokenEdit:
        """Edit of the last prompt token at an option: `default`, one of `choices`, or `without`.

        Args:
            option: the option.
            stream: the residual stream of the prompts, to which strengths can be relative.
        """

    def edits(self, stream: Stream) -> Sequence[LastTokenEdit]:
        """Edits of all `choices`, in order."""
        return [self.edit(option, stream) for option in self.choices]

    def vector(self, option: Option) -> Tensor | None:
        """The vector that is injected at an option, (d_model,); tables show its norm. None if no single one is."""
        return None

    @property
    def content(self) -> list[Any]:
        """Everything that the edits depend on, except the residual stream, as a JSON value.

        Raises:
            ConfigError: a field is no number, text, tensor, or dataclass or sequence of these.
        """
        return content_of(self)


@dataclass(frozen=True, eq=False)
class Fixed(Options):
    """One edit, with nothing to choose; None for unedited prompts.

    Example:
        >>> Fixed(fv.SetHeads(((11, 0),), 0.0)).choices
        ()
    """

    fixed: LastTokenEdit = None

    @property
    def is_edit(self) -> bool:
        return self.fixed is not None

    def edit(self, option: Option, stream: Stream) -> LastTokenEdit:
        return self.fixed


class AmongCells(Options):
    """Base of options that are cells: a subclass has the fields `cell`, taken if none is chosen, and `among`."""

    cell: Cell
    among: Sequence[Cell]

    @property
    def default(self) -> Option:
        return Option(*self.cell)

    @property
    def choices(self) -> Sequence[Option]:
        return [Option(*cell) for cell in self.among]


class AmongAlphas(Options):
    """Base of options that are strengths or shares: a subclass has `alpha`, taken if none is chosen, and `among`."""

    alpha: float
    among: Sequence[float]

    @property
    def default(self) -> Option:
        return Option(alpha=self.alpha)

    @property
    def choices(self) -> Sequence[Option]:
        return [Option(alpha=alpha) for alpha in self.among]


@dataclass(frozen=True, eq=False)
class Injected(AmongCells):
    """A vector added to the residual stream at a cell.

    Example:
        >>> Injected(vector.values, fv.Cell(11, 2.0)).default
        Option(layer=11, alpha=2.0)

    Attributes:
        values: the vector, (d_model,).
        cell: the cell if none is chosen.
        among: the cells that dev trials choose among, by layer then alpha; empty to inject at `cell`.
    """

    values: Tensor
    cell: Cell
    among: Sequence[Cell] = ()

    def edit(self, option: Option, stream: Stream) -> LastTokenEdit:
        return _added(self.values, [option], stream)[0]

    def edits(self, stream: Stream) -> Sequence[LastTokenEdit]:
        return _added(self.values, self.choices, stream)

    def vector(self, option: Option) -> Tensor | None:
        return self.values


@dataclass(frozen=True, eq=False)
class LayerVectors(AmongCells):
    """One vector per layer, of which the layer of the cell takes its own.

    Example:
        >>> LayerVectors(torch.ones(lm.n_layers, lm.d_model), fv.Cell(11, 1.0), replaces=True).default
        Option(layer=11, alpha=1.0)

    Attributes:
        values: the vectors, (n_layers, d_model).
        cell: the cell if none is chosen.
        among: the cells that dev trials choose among, by layer then alpha; empty to inject at `cell`.
        replaces: whether the vector replaces the residual stream instead of being added; alpha is then the share of
            the stream that is replaced.
    """

    values: Tensor
    cell: Cell
    among: Sequence[Cell] = ()
    replaces: bool = False

    def edit(self, option: Option, stream: Stream) -> LastTokenEdit:
        from fv.interventions.edits import ReplaceResidual

        cell = _cell(option)
        if self.replaces:
            return ReplaceResidual(cell.layer, self.values[cell.layer], cell.alpha)
        return _added(self.values[cell.layer], [option], stream)[0]

    def vector(self, option: Option) -> Tensor | None:
        return self.values[_cell(option).layer]


@dataclass(frozen=True, eq=False)
class LayerEdits(AmongAlphas):
    """One vector per layer, added after every block at once, with one strength, which tables show without a layer.

    Example:
        >>> every = LayerEdits(torch.ones(lm.n_layers, lm.d_model), among=(0.5, 1.0))
        >>> len(every.edit(every.default, Stream()).places) == lm.n_layers
        True

    Attributes:
        values: the vectors, (n_layers, d_model).
        alpha: the strength if none is chosen.
        among: the strengths that dev trials choose among, in order of preference; empty to take `alpha`.
    """

    values: Tensor
    alpha: float = 1.0
    among: Sequence[float] = ()

    def edit(self, option: Option, stream: Stream) -> LastTokenEdit:
        from fv.interventions.edits import Edits

        if not option.alpha:
            return None
        options = [option._replace(layer=layer) for layer in range(len(self.values))]
        return Edits(tuple(_added(own, [at], stream)[0] for own, at in zip(self.values, options, strict=True)))


@dataclass(frozen=True, eq=False)
class Scaled(AmongAlphas):
    """Any edit with a strength or a share (`Edit.scaled`), which tables show as `alpha`, without a layer.

    Example:
        >>> Scaled(fv.SetHeads(((11, 0), (11, 2)), 0.0), among=(0.5, 1.0)).choices
        [Option(layer=None, alpha=0.5), Option(layer=None, alpha=1.0)]

    Attributes:
        whole: the edit at alpha 1; prompts are not edited at alpha 0.
        alpha: the alpha if none is chosen.
        among: the alphas that dev trials choose among, in order of preference; empty to take `alpha`.
    """

    whole: Edit
    alpha: float = 1.0
    among: Sequence[float] = ()

    def edit(self, option: Option, stream: Stream) -> LastTokenEdit:
        return self.whole.scaled(option.alpha) if option.alpha else None


def content_of(value: Any) -> Any:
    """Convert the content of options or of an edit to a JSON value; a tensor becomes its digest.

    Raises:
        ConfigError: it holds something else than numbers, texts, tensors, and dataclasses or sequences of these.
    """
    from torch import Tensor

    from fv.work.store import digest_of_tensor

    if isinstance(value, Tensor):
        return digest_of_tensor(value)
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, *(content_of(getattr(value, own.name)) for own in fields(value))]
    if isinstance(value, tuple | list):
        return [*map(content_of, value)]
    if value is None or isinstance(value, str | int | float):
        return value
    raise ConfigError(
        f"Results are stored under the options of their conditions, but no {type(value).__name__} can be stored: give "
        "options fields that are numbers, texts, tensors, or dataclasses or sequences of these, or a `content` of "
        "their own."
    )


def _cell(option: Option) -> Cell:
    from fv.interventions.engine import Cell

    return Cell(*option)  # type: ignore[arg-type]  # refuses an option without layer or alpha


def _added(vector: Tensor, options: Iterable[Option], stream: Stream) -> list[AddVector]:
    """The vector, (d_model,), added at each cell; cells of equal strength share one tensor."""
    from fv.interventions.edits import AddVector
    from fv.vectors.values import strength

    scaled: dict[float, Tensor] = {}
    edits: list[AddVector] = []
    for cell in map(_cell, options):
        factor = strength(vector, cell, stream.unit)
        if factor not in scaled:
            scaled[factor] = factor * vector
        edits.append(AddVector(cell.layer, scaled[factor]))
    return edits
