"""Maker: a way to make a function vector, or another edit of prompts without examples, from a relation's fit trials.

A maker computes tensors once (`compute`), which are kept as a unit, and turns them into the options that dev trials
choose among (`options`). It sees fit trials only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from fv.config.group import Group
from fv.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from fv.data.snapshot import Snapshot
    from fv.heads.activations import RelationMeans
    from fv.heads.effects import Effects
    from fv.heads.ranking import Ranking, VectorHeads
    from fv.interventions.engine import Cell, Engine
    from fv.models.language_model import LanguageModel
    from fv.models.prompt import Prompt
    from fv.progress import Advance
    from fv.vectors.options import Option, Options


class States(NamedTuple):
    """Hidden states of prompts at their last token.

    Attributes:
        head_outputs: (n_prompts, n_layers, n_heads, head_dim).
        residual: the residual stream after each block, (n_prompts, n_layers, d_model).
    """

    head_outputs: Tensor
    residual: Tensor


class Report(NamedTuple):
    """Report of a training, as columns of tables.

    Attributes:
        n_steps: number of steps after which the kept parameters were found; NaN if nothing was trained.
        train_delta_logprob: mean log p of the fit trials that were trained on, relative to no edit.
        aside_delta_logprob: mean log p of the fit trials held aside, relative to no edit.
    """

    n_steps: float = nan
    train_delta_logprob: float = nan
    aside_delta_logprob: float = nan


@dataclass(frozen=True, eq=False)
class FitTrials:
    """A relation's fit trials and what was measured on them: all that a maker may see.

    Attributes:
        lm: the model.
        engine: the engine that runs prompts.
        snapshot: the trials.
        q_id: the relation.
        effects: effects and means of every relation.
        ranking: the ranking that chooses heads.
        cells: the (layer, alpha) cells that dev trials may choose among, by layer then alpha.
        shares: the shares of a replacement that dev trials may choose among, ascending, each above 0.
        seed: seed of every draw.
    """

    lm: LanguageModel
    engine: Engine
    snapshot: Snapshot
    q_id: str
    effects: Effects
    ranking: Ranking
    cells: Sequence[Cell]
    shares: Sequence[float] = (1.0,)
    seed: int = 42

    @property
    def means(self) -> RelationMeans:
        """Means over the relation's fit prompts."""
        return self.effects.means_of(self.q_id)

    @property
    def rms(self) -> Tensor:
        """Mean norm of the residual stream after each block over √d_model: about the size of an entry, (n_layers,)."""
        return self.means.residual_norm.cpu() / self.lm.d_model**0.5

    @property
    def difference(self) -> Tensor:
        """Mean residual stream of the clean prompts minus that of the zero-shot prompts, (n_layers, d_model)."""
        return self.means.difference

    def prompts(self, kind: str, at_most: int | None = None) -> list[Prompt]:
        """Prompts of one kind of the fit trials."""
        from fv.data.prompts import prompt_of

        trials = self.snapshot.of(self.q_id, "fit", at_most)
        return [prompt_of(self.lm, self.snapshot, trial, kind) for trial in trials]

    def encoded(self, text: str) -> tuple[int, ...]:
        """Token ids of a text, with the special tokens that the trials' prompts have."""
        return tuple(self.lm.encode(text, self.snapshot.meta.add_special_tokens))

    def heads(self, k: int | None = None, aie: bool = False) -> VectorHeads:
        """The `k` best heads of the relation's own ranking, or of the AIE's, with the means; None for the run's k.

        Raises:
            ConfigError: fewer than `k` heads were measured.
        """
        return self.effects.heads_of(self.q_id, self.ranking, k or self.ranking.k, aie)

    def head_differences(self, reference: str | None) -> Tensor:
        """Mean head outputs of the clean prompts minus those of the `reference` prompts.

        Args:
            reference: `zero_shot` or `corrupted`; None to subtract nothing.

        Returns:
            (n_layers, n_heads, head_dim).
        """
        if reference is None:
            return self.means.clean
        return self.means.clean - getattr(self.means, reference)

    @cached_property
    def layers(self) -> list[int]:
        """Layers of `cells`, ascending."""
        return sorted({cell.layer for cell in self.cells})

    @cached_property
    def content(self) -> list[object]:
        """Measurements of this relation, as a JSON value."""
        return _content_of(self, [self.q_id])

    @cached_property
    def content_of_all(self) -> list[object]:
        """Measurements of every relation, as a JSON value."""
        return _content_of(self, self.effects.qids)


@dataclass
class Maker(Group):
    """Base of makers; the fields are settings, each with a default.

    A maker's module is imported wherever settings are checked, so torch is imported inside its methods only.
    """

    label: ClassVar[str] = ""
    """Its name in tables and figures, such as `difference of means`."""
    source: ClassVar[str] = ""
    """The paper that it comes from, such as `Todd et al. 2024`."""
    states: ClassVar[tuple[str, ...]] = ()
    """Kinds of the fit trials' prompts whose hidden states `compute` needs one by one: `clean`, `zero_shot`, …."""
    required: ClassVar[tuple[str, ...]] = ()
    """Settings that have no useful default and have to be given."""
    trains: ClassVar[bool] = False
    """True if it is trained on the answers of the fit trials by gradients."""
    of_others: ClassVar[bool] = False
    """True if it depends on other relations' measurements, too."""

    def more_prompts(self, of: FitTrials) -> Mapping[str, Sequence[Prompt]]:
        """Prompts of its own whose hidden states `compute` needs, by a name other than those of `states`."""
        return {}

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        """Compute the tensors of its edits, on the CPU.

        Args:
            of: the fit trials.
            states: hidden states by the names of `states` and `more_prompts`.
            advance: progress callback, called with the share of the work done, 1 in all.

        Raises:
            ConfigError: the maker cannot be used with these measurements; the message says what would help.
        """
        raise NotImplementedError

    def options(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> Options:
        """Make the options that dev trials choose among.

        Args:
            of: the fit trials.
            tensors: what `compute` returned.
        """
        raise NotImplementedError

    def n_fitted(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> int:
        """Number of values in an edit that were fitted, by regression or by training; 0 if all are means."""
        return 0

    def reports(self, tensors: Mapping[str, Tensor], option: Option) -> Report:
        """Report of the training of an option.

        Args:
            tensors: what `compute` returned.
            option: one of the options that it made.
        """
        return Report()

    def depends_on(self, of: FitTrials) -> list[object]:
        """All that `compute` depends on besides settings, measurements and the prompts of `states`, as a JSON value."""
        return []


@dataclass
class OneVector(Maker):
    """Base of makers of one vector for a layer to be chosen: `compute` returns it as `vector`, (d_model,)."""

    def options(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> Options:
        from fv.vectors.options import Injected

        return Injected(tensors["vector"], first_cell(of), of.cells)


def first_cell(of: FitTrials) -> Cell:
    """Cell that is taken if there are no dev trials: the first of the grid.

    Raises:
        ConfigError: there is none.
    """
    if not of.cells:
        raise ConfigError("There is no cell to inject at: give at least one layer and one alpha.")
    return of.cells[0]


def _content_of(of: FitTrials, qids: Sequence[str]) -> list[object]:
    from fv.heads.activations import MEANS
    from fv.work.store import digest_of_tensor

    means = [[digest_of_tensor(getattr(of.effects.means_of(q_id), name)) for name in MEANS] for q_id in qids]
    scores = [of.effects.scores_of(q_id).to_json(double_precision=15) for q_id in (*qids, None)]
    cells = [*map(list, of.cells)]
    return [of.q_id, means, scores, [of.ranking.key, of.ranking.k, of.ranking.leave_one_out], cells, [*of.shares]]
