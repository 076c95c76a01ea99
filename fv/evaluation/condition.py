"""Condition: a candidate with its chosen option, ready to run on test trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from fv.evaluation.candidate import NO_VECTOR, Candidate
from fv.interventions.edits import LastTokenEdit
from fv.tables import TableRow
from fv.vectors.options import NO_OPTION, Option
from fv.vectors.stream import Stream
from fv.vectors.values import norm_of


@dataclass(frozen=True)
class Condition:
    """One way to run a relation's prompts.

    Attributes:
        name: its name.
        edit: edit of the last prompt token; None for no edit.
        fv: the function vector that it belongs to; empty if it belongs to none.
        draw: number of the random draw, if there are several.
        option: the chosen option: layer and alpha, as far as it has them.
        norm: norm of the injected vector, before alpha; None if no single vector is injected.
        relative_norm: this norm divided by the residual stream's at the layer; None if that was not measured.
        of: the other relation that it is made from.
        compared_with: the vector whose controls a vector is compared with.
        all_draws: whether all possible draws are run.
        refit_of: the condition that it is a refit of, whose intervals it widens; empty for none.
    """

    name: str
    edit: LastTokenEdit
    fv: str = NO_VECTOR
    draw: int = 0
    option: Option = NO_OPTION
    norm: float | None = None
    relative_norm: float | None = None
    of: str | None = None
    compared_with: str | None = None
    all_draws: bool = True
    refit_of: str = ""

    def where(self, eval_qid: str) -> TableRow:
        """Columns that identify the condition in a table."""
        names = ("norm", "relative_norm", "of", "compared_with", "all_draws")
        own = {name: getattr(self, name) for name in names} | {"refit_of": self.refit_of or None}
        where = {"fv": self.fv, "eval_qid": eval_qid, "condition": self.name, "draw": self.draw}
        return {**where, **self.option._asdict(), **own}


def settled(candidates: Sequence[Candidate], best: Mapping[int, Option], stream: Stream) -> list[Condition]:
    """Settle each candidate on one of its options.

    Args:
        candidates: the candidates of a relation.
        best: {index of a candidate: the option that was chosen for it}; others have their default, and refits the
            option of the condition that they are a refit of.
        stream: the residual stream, to which strengths are relative.
    """
    options = [best.get(i, one.options.default) for i, one in enumerate(candidates)]
    of_name = {(one.fv, one.name): own for one, own in zip(candidates, options, strict=True) if not one.refit_of}
    return [
        _condition(one, of_name.get((one.fv, one.refit_of), own) if one.refit_of else own, stream)
        for one, own in zip(candidates, options, strict=True)
    ]


def _condition(candidate: Candidate, option: Option, stream: Stream) -> Condition:
    edit, vector = candidate.options.edit(option, stream), candidate.options.vector(option)
    norm = None if vector is None else norm_of(vector)
    relative = None if norm is None else stream.relative(norm, option.layer)
    return Condition(candidate.name, edit, option=option, norm=norm, relative_norm=relative, **candidate.labels)


def recorded_options(candidates: Sequence[Candidate], rows: pd.DataFrame) -> dict[int, Option]:
    """Options at which candidates were run: {index of the candidate: its option}.

    Args:
        candidates: the candidates of a relation.
        rows: trial rows of its conditions.
    """
    key = ["fv", "condition", "draw"]
    there = rows.drop_duplicates(key)[[*key, "layer", "alpha"]].itertuples(index=False)
    options = {
        (fv, name, draw): Option(None if pd.isna(layer) else int(layer), None if pd.isna(alpha) else float(alpha))
        for fv, name, draw, layer, alpha in there
    }
    return {i: options[one.fv, one.name, one.draw] for i, one in enumerate(candidates)}
