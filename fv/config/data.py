"""Settings of the group `data`: the relations, and the sampling of trials."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from annotated_types import Ge

from fv.config.checks import check_at_most, check_name, check_qids
from fv.config.group import Group
from fv.errors import ConfigError


class Split(StrEnum):
    """Queries that Step6 evaluates on."""

    held_out = "held_out"
    """Queries that are held out from StepD."""
    shared = "shared"
    """Queries of StepD's own trials."""


class Corruption(StrEnum):
    """Assignment of outputs to the demonstrations of a corrupted prompt."""

    derange = "derange"
    """No demonstration keeps an output that is right for its input."""
    permute = "permute"
    """A permutation of the demonstrations' outputs, as in the function-vectors paper's code; some may stay right."""


class HoldOut(StrEnum):
    """Part of an eval query that no fit prompt shows."""

    queries = "queries"
    """Its pair, with reversed pairs and pairs of the same input; a fit prompt may show the same answer elsewhere."""
    outputs = "outputs"
    """Its pair and its answer: all pairs with this output are set aside, too."""


class Form(StrEnum):
    """Form of the data in `data.path`."""

    auto = "auto"
    """The form that each file's suffix or beginning shows."""
    csv = "csv"
    tsv = "tsv"
    function_vectors = "function_vectors"
    """A JSON list of `{"input", "output"}`."""
    lre = "lre"
    """A JSON object with `samples` of `{"subject", "object"}`."""
    jsonl = "jsonl"
    parquet = "parquet"
    folder = "folder"
    """A folder of files, each read with `auto`."""


@dataclass
class ColumnsConfig(Group):
    """Names of the CSV's columns."""

    q_id: str = "q_id"
    """Column of relations."""
    exA: str = "exA"  # noqa: N815 - the contract's own column name
    """Column of inputs."""
    exB: str = "exB"  # noqa: N815
    """Column of outputs."""

    def validate(self) -> None:
        super().validate()
        if len({self.q_id, self.exA, self.exB}) < 3:
            columns = self.group or "columns"
            raise ConfigError(f"{columns} must name three different columns, not {self.q_id}, {self.exA}, {self.exB}.")


@dataclass
class TemplateConfig(Group):
    """Texts that pairs become in prompts."""

    demo: str = "Q: {exA}\nA: {exB}\n\n"
    """One demonstration."""
    query: str = "Q: {exA}\nA:"
    """The query; a prompt ends here."""
    target: str = " {exB}"
    """The right answer; it follows the prompt directly."""

    def validate(self) -> None:
        super().validate()
        for name, text, due in (
            ("demo", self.demo, ("{exA}", "{exB}")),
            ("query", self.query, ("{exA}",)),
            ("target", self.target, ("{exB}",)),
        ):
            if any(part not in text for part in due):
                raise ConfigError(f"{self.called(name)}={text!r} must contain {' and '.join(due)}.")
        if not self.target.startswith(" "):
            raise ConfigError(f"{self.called('target')}={self.target!r} must start with a space (spec section 1).")


@dataclass
class DataConfig(Group):
    """Relations, and the sampling of trials from them."""

    name: str = "default"
    """Short name: part of `run_id`."""
    relation_csv_path: str = "datasets/relation/default.csv"
    """CSV of (q_id, exA, exB) rows; a relative path is looked up here, and then in the installed package."""
    path: str | None = None
    """File or folder in any known form (`fv.data.importers`), instead of `relation_csv_path`."""
    form: Form = Form.auto
    """Form of the data in `path`, a file or a folder of files; `auto` detects it."""
    include: list[str] | None = None
    """Patterns of the files to read in a folder, such as `*.csv`, or `!notes.json` to leave one out; null means all
    files with a known suffix."""
    clusters_path: str | None = None
    """CSV of (q_id, cluster) rows that group relations about the same words; null means `clusters.csv` in the folder of
    the relations."""
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    template: TemplateConfig = field(default_factory=TemplateConfig)
    qids: list[str] | None = None
    """Relations to use; null means all."""
    n_trials_per_q: Annotated[int, Ge(1)] = 36
    """Trials per relation for finding heads (`split=fit`); if a relation has fewer queries, queries are used again."""
    n_demos: Annotated[int, Ge(1)] = 10
    """Demonstrations in a few-shot prompt."""
    n_mean_trials: Annotated[int, Ge(1)] | None = None
    """Fit trials whose clean and corrupted prompts are averaged; null means all."""
    n_eval_trials_per_q: Annotated[int, Ge(0)] = 16
    """Held-out trials per relation for Step6 (`split=eval`); unused with `split=shared`."""
    split: Split = Split.held_out
    """`held_out`: Step6 evaluates on queries that StepD never saw; `shared`: on StepD's own trials."""
    hold_out: HoldOut = HoldOut.queries
    """Part of an eval query that no fit prompt shows: `queries`, its pair; `outputs`, its answer too."""
    corruption: Corruption = Corruption.derange
    """Outputs in corrupted prompts: `derange`, all wrong; `permute`, permuted, so that some may stay right."""
    allow_drop: bool = False
    """Continue with fewer trials if a relation has too few pairs, and record it."""
    strict: bool = False
    """Refuse duplicate pairs and inputs with several outputs instead of warning of them."""
    fixed_trials_path: str | None = None
    """Snapshot of trials to replay instead of sampling (debugging only)."""

    def validate(self) -> None:
        super().validate()
        check_name(self.called("name"), self.name)
        self._check_counts()
        self.qids = check_qids(self.called("qids"), self.qids)
        self._check_source()

    def _check_counts(self) -> None:
        """Refuse numbers of trials and settings of the split that contradict each other."""
        split, n_eval, n_fit = map(self.called, ("split", "n_eval_trials_per_q", "n_trials_per_q"))
        if self.split is Split.held_out and self.n_eval_trials_per_q == 0:
            raise ConfigError(f"{split}=held_out needs {n_eval} of 1 or more, or set {split}=shared.")
        if self.split is Split.shared and self.hold_out is HoldOut.outputs:
            hold_out = self.called("hold_out")
            raise ConfigError(f"{hold_out}=outputs has no effect with {split}=shared, where nothing is held out.")
        if self.n_mean_trials is not None and self.fixed_trials_path is None:
            check_at_most(self.called("n_mean_trials"), self.n_mean_trials, n_fit, self.n_trials_per_q)

    def _check_source(self) -> None:
        """Refuse a form without a path, and relations from two places."""
        path = self.called("path")
        if self.path is None and self.form is not Form.auto:
            raise ConfigError(f"{self.called('form')}={self.form.value} needs {path}=<file or folder>.")
        if self.path is not None and self.relation_csv_path != DataConfig.relation_csv_path:
            raise ConfigError(
                f"Relations come from {path}={self.path} or from "
                f"{self.called('relation_csv_path')}={self.relation_csv_path}; give one."
            )

    @property
    def source(self) -> str:
        """Path of the relations."""
        return self.path or self.relation_csv_path
