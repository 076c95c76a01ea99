"""Edits of the rows of a pass: each row of a prompt's last token has its own edit, and all act in one forward.

Rows are edited place by place. At a place, edits of one class change their rows together (`Edit.change_rows`); several
edits of one row act one after the other.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from torch import Tensor

from fv.interventions.edit import Edit, LastTokenEdit
from fv.interventions.hooks import Change, edit_place
from fv.interventions.place import Part, Place
from fv.models.language_model import LanguageModel


class Group(NamedTuple):
    """Rows, with the edits of one class that act on them together, one per row."""

    rows: list[int]
    edits: list[Edit]


class RowEdits:
    """The edits of the rows of a pass, by place.

    Args:
        lm: the model.
        edits: one per row.
        at: the position that is edited among those of a row.

    Attributes:
        places: all places at which rows are edited.
    """

    def __init__(self, lm: LanguageModel, edits: Sequence[LastTokenEdit], at: int = 0) -> None:
        self._lm = lm
        self._at = at
        self._groups = _groups_by_place(edits)
        self.places = self._groups.keys()
        # Found before hooks act: a quantised projection is run to find it.
        self._heads = (lm.n_heads, lm.head_dim) if any(place.part == Part.heads for place in self._groups) else None

    def change(self, place: Place, rows: Tensor) -> None:
        """Edit rows at a place, (n_prompts, n_rows, positions, width), in place; later rows may be missing."""
        if place.part == Part.heads and self._heads is not None:
            rows = rows.unflatten(-1, self._heads)  # (…, width) -> (…, n_heads, head_dim)
        for kind, group in self._groups.get(place, ()):
            here = group.rows, self._at
            rows[:, *here] = kind.change_rows(group.edits, place, rows[:, *here])

    @contextmanager
    def acting(self, places: Iterable[Place], by_row: Change, in_place: Sequence[Part] = ()) -> Iterator[None]:
        """Edit the model at these places, for as long as the block lasts.

        Args:
            places: the places, as far as rows are edited there.
            by_row: gives a view of hidden states, (batch, positions, width), as (n_prompts, n_rows, positions, width).
            in_place: parts whose hidden states nothing else reads, so that they need not be copied.

        Raises:
            ModelError: an edited module took no part in the forward pass.
        """
        with ExitStack() as stack:
            for place in places:
                if place in self.places:
                    change = self._changing(place, by_row, copies=place.part not in in_place)
                    stack.enter_context(edit_place(self._lm, place, change))
            yield

    def _changing(self, place: Place, by_row: Change, copies: bool) -> Change:
        def change(hidden: Tensor) -> Tensor:
            changed = hidden.clone() if copies else hidden
            self.change(place, by_row(changed))
            return changed

        return change


@contextmanager
def edited_rows(lm: LanguageModel, edits: Sequence[LastTokenEdit], at: int = 0) -> Iterator[None]:
    """Run the model with row r of every prompt edited by `edits[r]`, at position `at` of the tokens that are run.

    A batch is (n_prompts * n_rows, positions), the rows of a prompt next to one another.

    Raises:
        ModelError: an edited module took no part in the forward pass.
    """
    rows = RowEdits(lm, edits, at)
    with rows.acting(rows.places, lambda hidden: hidden.unflatten(0, (-1, len(edits)))):
        yield


def _groups_by_place(edits: Sequence[LastTokenEdit]) -> dict[Place, list[tuple[type[Edit], Group]]]:
    """Group rows by place, then by their turn in the row, then by class."""
    found: dict[Place, dict[tuple[int, type[Edit]], Group]] = defaultdict(dict)
    for row, edit in enumerate(edits):
        turns: Counter[Place] = Counter()
        for part in edit.parts if edit is not None else ():
            for place in part.places:
                rows, own = found[place].setdefault((turns[place], type(part)), Group([], []))
                rows.append(row)
                own.append(part)
                turns[place] += 1
    return {
        place: [(kind, group) for (_, kind), group in sorted(groups.items(), key=lambda item: item[0][0])]
        for place, groups in found.items()
    }
