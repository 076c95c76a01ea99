"""The summary of an evaluation, `eval_summary.json` (spec section 4)."""

from pydantic import BaseModel, ConfigDict, JsonValue

from fv.files import JsonObject

Number = int | float | None
"""A number, or null where there is none."""
Row = dict[str, bool | int | float | str | None]
"""A row of a table by its columns; null where there is no value."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Estimate(_Strict):
    """The mean of a metric over test trials, in the metric's unit.

    Attributes:
        mean: the mean.
        se: its standard error.
        ci_low: the lower end of its interval.
        ci_high: the upper end.
        n_refits: how many refits of the vector the interval includes.
        refit_sd: the standard deviation of their means.
    """

    mean: float
    se: float | None
    ci_low: float | None
    ci_high: float | None
    n_refits: Number
    refit_sd: float | None


class Difference(_Strict):
    """The mean difference of two conditions over test trials, trial by trial; the fields of `Estimate`, and three more.

    Attributes:
        draw_sd: the standard deviation over draws of a random control.
        draw_min: the smallest difference of a draw.
        draw_max: the largest.
    """

    mean: float
    se: float | None
    ci_low: float | None
    ci_high: float | None
    draw_sd: float | None
    draw_min: float | None
    draw_max: float | None
    n_refits: Number
    refit_sd: float | None


class ConditionMeans(_Strict):
    """The means of a condition on a relation's test trials: rows of `held_out.csv` that differ in their metric only."""

    fv: str
    eval_qid: str
    condition: str
    draw: int
    layer: int | None
    alpha: float | None
    norm: float | None
    relative_norm: float | None
    of: str | None
    compared_with: str | None
    all_draws: bool | None
    refit_of: str | None
    subset: str
    n: int
    metrics: dict[str, Estimate]


class Contrast(_Strict):
    """A condition minus another one on a relation's test trials: rows of `contrasts.csv` that differ in their metric
    only."""

    fv: str
    eval_qid: str
    condition: str
    minus: str
    subset: str
    n: int
    n_draws: Number
    metrics: dict[str, Difference]


class EvalSummary(BaseModel):
    """The summary of an evaluation; analyses add their results under keys of their own.

    Attributes:
        schema_version: the version of this schema.
        primary_metric: the metric that chooses cells.
        confidence: the level of all intervals.
        fvs: the vectors.
        eval_qids: the relations that they were evaluated on.
        layers: the layers of the grid.
        alphas: the strengths of the grid.
        chosen: the cell that dev trials choose for each vector and relation, with its means over test trials.
        rows: every cell of the grid, with its means over all eval trials.
        matrix: {vector: {relation: its cells, in order of layer and alpha}}.
        alpha_unit: what alpha multiplies.
        eval_split: the trials that were evaluated on, `eval` or `fit`.
        warnings: sentences on limits of the numbers.
        headline: rows of `headline.csv`; like the next three, only where test trials were run.
        relations: one row per relation: its lead metric, and the accuracy of a constant answer and of repeating the
            query.
        held_out: means of every condition.
        contrasts: differences between conditions.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, JsonValue]

    schema_version: int
    primary_metric: str
    confidence: float
    fvs: list[str]
    eval_qids: list[str]
    layers: list[int]
    alphas: list[float]
    chosen: list[Row]
    rows: list[Row]
    matrix: dict[str, dict[str, list[Row]]]
    alpha_unit: str
    eval_split: str
    warnings: list[str]
    headline: list[Row] = []
    relations: list[Row] = []
    held_out: list[ConditionMeans] = []
    contrasts: list[Contrast] = []

    def as_json(self) -> JsonObject:
        """The file's content."""
        return self.model_dump(mode="json", exclude_unset=True)
