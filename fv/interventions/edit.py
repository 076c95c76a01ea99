"""Edit: a change of a model's hidden states at one or several places (spec section 1).

A kind of edit is a dataclass with its `places` and its `change`, in one file, here or in a package from outside. Edits
act in an engine, on rows of last prompt tokens (`fv.interventions.row_edits`), and in a model that its user runs
(`fv.interventions.editing`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

from torch import Tensor

from fv.characters import visible
from fv.errors import ConfigError
from fv.interventions.edit_checks import check_layer
from fv.interventions.place import Part, Place
from fv.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False, repr=False)
class Edit(ABC):
    """A change of hidden states; a kind of edit is a frozen dataclass derived from it.

    An edit has to say its `places` and its `change`. All other methods have a default: `change_rows` may be faster for
    many rows, `check` more precise, `words` nicer to read, and `scaled` is for edits that have a strength.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, eq=False, repr=False)
        ... class Negate(fv.Edit):
        ...     layer: int
        ...     places = property(lambda self: (fv.Place(self.layer, "residual"),))
        ...     def change(self, place, hidden):
        ...         return -hidden
        >>> with lm.edited(Negate(11)):
        ...     text = lm.generate("Q: hot\\nA:", max_new_tokens=1)
    """

    def __init_subclass__(cls) -> None:
        """Give a class with a `change` of its own the `change_rows` that calls it, not that of its base."""
        super().__init_subclass__()
        if "change" in vars(cls) and "change_rows" not in vars(cls):
            cls.change_rows = classmethod(Edit.change_rows.__func__)  # type: ignore[attr-defined, method-assign, assignment]

    @property
    @abstractmethod
    def places(self) -> Sequence[Place]:
        """The places at which it acts, each once."""

    @abstractmethod
    def change(self, place: Place, hidden: Tensor) -> Tensor:
        """Changed hidden states at one of its places.

        Args:
            place: the place.
            hidden: (..., d_model); for heads, (..., n_heads, head_dim). It is not changed itself.

        Returns:
            a tensor of the shape and number format of `hidden`, or one that expands to this shape.
        """

    @classmethod
    def change_rows(cls, edits: Sequence[Self], place: Place, hidden: Tensor) -> Tensor:
        """Changed rows of hidden states at a place, each row by its own edit of this class.

        Args:
            edits: one per row.
            place: one of the places of every edit.
            hidden: (n_prompts, n_rows, d_model); for heads, (n_prompts, n_rows, n_heads, head_dim). It may be changed
                itself.
        """
        for row, edit in enumerate(edits):
            hidden[:, row] = edit.change(place, hidden[:, row])
        return hidden

    @property
    def parts(self) -> tuple["Edit", ...]:
        """The edits that it consists of, in the order in which they act: itself, unless it is composed of others."""
        return (self,)

    @property
    def first_block(self) -> int:
        """The first block whose result it changes; n_layers if there is none."""
        return min((place.first_block for place in self.places), default=0)

    def check(self, lm: LanguageModel) -> None:
        """Check that it fits a model, and would change something.

        Raises:
            ConfigError: it does not; names the argument and what would be right.
            SpecError: the family of the model has no module at one of its places.

        Warns:
            FvWarning: it comes from another model.
        """
        self.check_places(lm)

    def check_places(self, lm: LanguageModel) -> None:
        """Check that there is a place, and that the model has each.

        Raises:
            ConfigError: there is none, or a layer is not one of the model's.
            SpecError: the family of the model has no module at one of its places.
        """
        name = type(self).__name__
        if not self.places:
            raise ConfigError(f"{name}.places is empty, so it would change nothing: give a Place(layer, part).")
        for place in self.places:
            check_layer(f"{name}.layer", place.layer, lm)
            if place.part == Part.mlp:
                _ = lm.mlps

    @property
    def words(self) -> str:
        """The edit in words, to follow a comma in a message."""
        return f"with {type(self).__name__} at {' and '.join(str(Place(*place)) for place in self.places)}"

    @property
    def prompt_endings(self) -> tuple[str, ...]:
        """The endings of prompts in the templates that its vectors come from, as far as they are known."""
        return ()

    def scaled(self, alpha: float) -> "Edit":
        """Make the edit `alpha` times as strong; 0 changes nothing.

        Raises:
            ConfigError: edits of this class have no strength.
        """
        raise ConfigError(f"{type(self).__name__} has no strength to be multiplied by {alpha:g}.")

    def __repr__(self) -> str:
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        told = ", ".join(f"{name}={_told(value)}" for name, value in given.items() if value is not None)
        return visible(f"{type(self).__name__}({told})")


LastTokenEdit = Edit | None
"""An edit of a row; None leaves the row unedited."""


def checked_edits(lm: LanguageModel, edits: Edit | Sequence[Edit]) -> tuple[Edit, ...]:
    """The given edit or edits as a tuple, each checked to act in this model.

    Raises:
        ConfigError: an edit does not fit the model, or would change nothing; names the argument and what would be
            right.

    Warns:
        FvWarning: a vector is known to come from another model.
    """
    found = (edits,) if isinstance(edits, Edit) else tuple(edits) if isinstance(edits, list | tuple) else None
    if not found or not all(isinstance(edit, Edit) for edit in found):
        wrong = next((edit for edit in found if not isinstance(edit, Edit)), None) if found else edits
        kind = "empty" if found == () else f"a {type(wrong).__name__}"
        raise ConfigError(f"edits is {kind}: give an AddVector, a SetHeads or another Edit, or a list of them.")
    for edit in found:
        edit.check(lm)
    return found


def _told(value: object) -> str:
    """A field's value in one line, however large its tensors are."""
    if isinstance(value, tuple) and any(isinstance(part, Tensor) for part in value):
        return f"({', '.join(map(_told, value))})"
    return f"tensor of {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
