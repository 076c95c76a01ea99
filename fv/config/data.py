"""Settings of the group `data`: which relations, and how trials are sampled from them."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from annotated_types import Ge

from fv.config.checks import check_at_most, check_name, check_qids
from fv.config.group import Group
from fv.errors import ConfigError


class Split(StrEnum):
    """Whether Step6's queries are held out from StepD."""

    held_out = "held_out"
    shared = "shared"


class Corruption(StrEnum):
    """How the demonstrations of a corrupted prompt get their outputs."""

    derange = "derange"
    """No demonstration keeps an output that is right for its input."""
    permute = "permute"
    """A plain permutation of the demonstrations' outputs, as in the function-vectors paper's code; some stay right."""


class HoldOut(StrEnum):
    """The part of an eval query that is kept out of all fit prompts."""

    queries = "queries"
    """Its pair, with all pairs of the same input and reversed ones; another query's equal answer may be shown."""
    outputs = "outputs"
    """Its answer too: all pairs that have this output are set aside."""


class Form(StrEnum):
    """What `data.path` holds."""

    auto = "auto"
    """Each file as its suffix or its beginning says."""
    csv = "csv"
    tsv = "tsv"
    function_vectors = "function_vectors"
    """A JSON list of `{"input", "output"}`."""
    lre = "lre"
    """A JSON object with `samples` of `{"subject", "object"}`."""
    jsonl = "jsonl"
    parquet = "parquet"
    folder = "folder"
    """A folder of files, each as `auto` takes it."""


@dataclass
class ColumnsConfig(Group):
    """Names of the CSV's columns."""

    q_id: str = "q_id"
    """Column of the relation's name."""
    exA: str = "exA"  # noqa: N815 - the contract's own column name
    """Column of the input."""
    exB: str = "exB"  # noqa: N815
    """Column of the output."""

    def validate(self) -> None:
        super().validate()
        if len({self.q_id, self.exA, self.exB}) < 3:
            columns = self.group or "columns"
            raise ConfigError(f"{columns} must name three different columns, not {self.q_id}, {self.exA}, {self.exB}.")


@dataclass
class TemplateConfig(Group):
    """How pairs become text."""

    demo: str = "Q: {exA}\nA: {exB}\n\n"
    """One demonstration."""
    query: str = "Q: {exA}\nA:"
    """The query; a prompt ends here."""
    target: str = " {exB}"
    """The right answer, as it follows the prompt."""

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
    """Which relations, and how trials are sampled from them."""

    name: str = "default"
    """Short name: part of `run_id`."""
    relation_csv_path: str = "datasets/relation/default.csv"
    """CSV of (q_id, exA, exB) rows; a relative path is tried here, then among the files that are shipped."""
    path: str | None = None
    """A file or folder of any form that `fv.data.importers` knows, instead of `relation_csv_path`."""
    form: Form = Form.auto
    """What `path` must be, file or folder of files; `auto` finds out."""
    include: list[str] | None = None
    """Files of a folder that are read: patterns such as `*.csv`, and `!notes.json` for one that is not; null means all
    of a known suffix."""
    clusters_path: str | None = None
    """CSV of (q_id, cluster) rows: relations about the same words; null means `clusters.csv` beside the relations."""
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    template: TemplateConfig = field(default_factory=TemplateConfig)
    qids: list[str] | None = None
    """Relations to use; null means all in the file."""
    n_trials_per_q: Annotated[int, Ge(1)] = 36
    """Trials a relation for finding heads (`split=fit`); a relation of fewer queries uses them again."""
    n_demos: Annotated[int, Ge(1)] = 10
    """Demonstrations in a few-shot prompt."""
    n_mean_trials: Annotated[int, Ge(1)] | None = None
    """Fit trials whose prompts are averaged, clean ones and corrupted ones; null means all."""
    n_eval_trials_per_q: Annotated[int, Ge(0)] = 16
    """Held-out trials a relation for Step6 (`split=eval`); unused when `split=shared`."""
    split: Split = Split.held_out
    """`held_out`: Step6 evaluates on queries that StepD never saw; `shared`: on StepD's own trials."""
    hold_out: HoldOut = HoldOut.queries
    """The part of an eval query that fit prompts do not show: its pair, or every pair with its answer."""
    corruption: Corruption = Corruption.derange
    """What a corrupted prompt's outputs are (spec section 5)."""
    allow_drop: bool = False
    """Go on with fewer trials where a relation cannot give all, and record it."""
    strict: bool = False
    """Refuse duplicate pairs and inputs with several outputs, instead of warning."""
    fixed_trials_path: str | None = None
    """A snapshot to replay instead of sampling from the CSV (debugging only)."""

    def validate(self) -> None:
        super().validate()
        check_name(self.called("name"), self.name)
        self._check_counts()
        self.qids = check_qids(self.called("qids"), self.qids)
        self._check_source()

    def _check_counts(self) -> None:
        """Refuse numbers of trials, and what is held out of them, that contradict each other."""
        split, n_eval, n_fit = map(self.called, ("split", "n_eval_trials_per_q", "n_trials_per_q"))
        if self.split is Split.held_out and self.n_eval_trials_per_q == 0:
            raise ConfigError(f"{split}=held_out needs {n_eval} of 1 or more, or say {split}=shared.")
        if self.split is Split.shared and self.hold_out is HoldOut.outputs:
            hold_out = self.called("hold_out")
            raise ConfigError(f"{hold_out}=outputs says nothing about {split}=shared, where nothing is held out.")
        if self.n_mean_trials is not None and self.fixed_trials_path is None:
            check_at_most(self.called("n_mean_trials"), self.n_mean_trials, n_fit, self.n_trials_per_q)

    def _check_source(self) -> None:
        """Refuse a form of nothing, and relations from two places."""
        path = self.called("path")
        if self.path is None and self.form is not Form.auto:
            raise ConfigError(f"{self.called('form')}={self.form.value} needs {path}=<file or folder>.")
        # Runs of older versions recorded one path as both.
        if self.path is not None and self.relation_csv_path not in (DataConfig.relation_csv_path, self.path):
            raise ConfigError(
                f"Relations come from {path}={self.path} or from "
                f"{self.called('relation_csv_path')}={self.relation_csv_path}; give one."
            )

    @property
    def source(self) -> str:
        """Where relations are read from."""
        return self.path or self.relation_csv_path
