"""Typed configuration of all steps: plain dataclasses without Hydra and torch, so a mistake is found in a second.

Each group is one class, in the file of its name, and the class owns the defaults. Under `conf/`, `default.yaml` shows
the defaults, and the other files have only what differs. A number's range is in the type of its field
(`fv.config.ranges`); other checks of a group are in its `validate`, and checks across groups are in
`Config.__post_init__`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Lt

from fv.config.checks import check_at_most, check_name
from fv.config.cluster import ClusterConfig
from fv.config.data import ColumnsConfig, Corruption, DataConfig, Form, HoldOut, Split, TemplateConfig
from fv.config.evaluation import BootstrapMethod, ControlCell, ControlsConfig, EvaluationConfig, StatsConfig
from fv.config.group import Group, Settings, SettingsByName, groups_in, plain
from fv.config.injection import AlphaUnit, EvalScopeConfig, InjectionConfig, ScopeMode
from fv.config.model import (
    ComputeConfig,
    Dtype,
    ModelConfig,
    Quant,
    SweepMode,
    check_one_placement,
    shown_map,
)
from fv.config.plan import PlanConfig
from fv.config.presets import model_preset, model_presets, template_preset, template_presets
from fv.config.ranges import check_ranges
from fv.config.report import PageForm, ReportConfig
from fv.config.score import ScoreConfig, ScoreKey, Screen
from fv.errors import ConfigError

__all__ = [
    "AlphaUnit",
    "BootstrapMethod",
    "ClusterConfig",
    "ColumnsConfig",
    "ComputeConfig",
    "Config",
    "ControlCell",
    "ControlsConfig",
    "Corruption",
    "DataConfig",
    "Dtype",
    "EvalScopeConfig",
    "EvaluationConfig",
    "Form",
    "Group",
    "HoldOut",
    "InjectionConfig",
    "ModelConfig",
    "PageForm",
    "PlanConfig",
    "Quant",
    "ReportConfig",
    "ScopeMode",
    "ScoreConfig",
    "ScoreKey",
    "Screen",
    "Split",
    "StatsConfig",
    "SweepMode",
    "TemplateConfig",
    "embedded_model",
    "model_preset",
    "model_presets",
    "plain",
    "template_preset",
    "template_presets",
]

RESERVED_TAGS = (
    "aie",
    "step6",
    "cells",
    "units",
    "analyses",
    "stepD_mean_acts",
    "stepD_other_means",
    "stepD_prompt_outputs",
)
FILES = (".json", ".csv", ".pt", ".npz", ".jsonl", ".log", ".png", ".svg")
"""Suffixes of a run's files."""


def embedded_model() -> ModelConfig:
    """Settings of the default model: SmolLM2-135M, which comes with the installation."""
    return model_preset("smollm2")


@dataclass
class Config:
    """All settings of a step."""

    model: ModelConfig = field(default_factory=embedded_model)
    data: DataConfig = field(default_factory=DataConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    injection: InjectionConfig = field(default_factory=InjectionConfig)
    eval_scope: EvalScopeConfig = field(default_factory=EvalScopeConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    stats: StatsConfig = field(default_factory=StatsConfig)
    analysis: SettingsByName = field(default_factory=dict)
    """Analyses of the results: {name: settings}, each run after the step that it reads."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    seed: Annotated[int, Ge(0), Lt(2**64)] = 42
    """Seed of every draw."""
    run_id: str = "run"
    """Name of the run's folder; by default made of model, data and seed."""
    results_dir: str = "results_fv"
    """Folder that holds the runs' folders."""
    quiet: bool = False
    """Print warnings and errors only, without log lines, progress and tables; files are still written."""
    overwrite: bool = False
    """Replace existing results, complete ones or ones made with other settings."""
    tag: str | None = None
    """Name of a further set of StepE and Step6 outputs; null means the untagged set."""
    runs: list[str] | None = None
    """Several run_ids: `gather` averages their Step6 results over seeds, and `report` compares them on one page."""
    out: str | None = None
    """Folder that `report` writes the page of several runs into; null means a folder in `results_dir`."""

    @property
    def canonical(self) -> bool:
        """True if the settings are canonical: cpu, fp32, and weights neither quantised nor spread over devices."""
        whole = self.model.quant is Quant.none and self.model.device_map is None
        return self.compute.device == "cpu" and self.compute.dtype is Dtype.fp32 and whole

    @property
    def forgets_units(self) -> bool:
        """True if units that other processes made are computed again; on a cluster, its workers share their units."""
        return self.overwrite and not self.cluster.elsewhere

    def __post_init__(self) -> None:
        for key, group in groups_in(self):
            group.become(key)
        check_ranges(self)
        if self.compute.strict and not self.canonical:
            raise ConfigError(
                f"compute.device={self.compute.device} compute.dtype={self.compute.dtype.value} "
                f"model.device_map={shown_map(self.model.device_map)} "
                f"model.quant={self.model.quant.value} is not canonical (cpu, fp32, null, none). "
                "Set compute.strict=false to run it anyway; the metadata will record it."
            )
        check_one_placement(self.model, self.compute)
        check_name("run_id", self.run_id)
        for run_id in self.runs or []:
            check_name("runs", run_id)
        if self.tag is not None:
            check_name("tag", self.tag)
            if self.tag in RESERVED_TAGS or Path(self.tag).suffix in FILES:
                raise ConfigError(f"tag={self.tag} would collide with the run's own files; choose another.")
        if self.score.screen is not Screen.none and self.injection.k is not None:
            self._check_heads_verified(max(self.injection.k))
        if self.score.n_trials is not None and self.data.fixed_trials_path is None:
            check_at_most("score.n_trials", self.score.n_trials, "data.n_trials_per_q", self.data.n_trials_per_q)

    def _check_heads_verified(self, most: int) -> None:
        """Refuse vectors of more heads than a screened run verifies for certain."""
        if most > (verify := self.score.n_verify):
            raise ConfigError(
                f"injection.k={self.injection.k}: score.screen={self.score.screen.value} measures the best {verify} of "
                f"each ranking; set score.verify={most} or more."
            )

    def resolved(self) -> Settings:
        """The configuration as plain JSON values."""
        return plain(self)
