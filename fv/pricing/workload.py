"""Workload to be priced: the trials, and all settings that decide what is run on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fv.config import AlphaUnit, ComputeConfig, EvaluationConfig, ScoreConfig
from fv.data.snapshot import Snapshot
from fv.evaluation.grid import Scopes
from fv.interventions.engine import Cell, Head
from fv.interventions.engines import make_engine
from fv.interventions.expanded_batch import ExpandedBatchEngine
from fv.interventions.naive import NaiveEngine
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.pricing.expanded import PricedExpanded, PricedNaive
from fv.pricing.priced_engine import PricedEngine
from fv.pricing.shape import Shape
from fv.pricing.shared_prefix import PricedSharedPrefix
from fv.pricing.stand_in import StandIn
from fv.vectors.maker import Maker


@dataclass(frozen=True)
class Compared:
    """A comparison of makers (`fv.evaluation.baselines`).

    Attributes:
        makers: {name: maker}.
        texts: token ids of the unrelated texts.
        budget: highest mean KL divergence on these texts, in nats, of the second choice.
    """

    makers: Mapping[str, Maker]
    texts: Sequence[Sequence[int]]
    budget: float


@dataclass(frozen=True)
class Workload:
    """Everything that a price depends on, except the processor.

    Attributes:
        lm: the stand-in of the model.
        shape: the model's shape.
        snapshot: the trials.
        heads: the heads that StepD sweeps, or chooses from.
        vectors: the injected vectors with their relations; values are `fv.pricing.stand_in.WIDTH` wide.
        cells: the grid's (layer, alpha) cells.
        makers: {kind of vectors: the maker that makes them}.
        score: number of patched trials, and settings of the screen.
        evaluation: the conditions that vectors are compared with.
        alpha_unit: the unit of alpha.
        n_eval: maximum number of eval trials per relation; None for all.
        texts: token ids of the unrelated texts for the cost of injections.
        n_verified: number of heads that a screened run verifies; None for an estimate.
        n_mean_trials: number of fit trials whose prompts are averaged; None for all.
        null_draws: number of draws of the null (`fv.analyses.null`); 0 if it is not run.
        null_screened: whether the heads of a draw are screened.
        compared: the makers that are compared; None if there is no comparison.
        compute: settings of batches, units and engine.
        seed: seed of every draw.
    """

    lm: StandIn
    shape: Shape
    snapshot: Snapshot
    heads: Sequence[Head]
    vectors: Scopes
    cells: Sequence[Cell]
    makers: Mapping[str, Maker] = field(default_factory=dict)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    alpha_unit: AlphaUnit = AlphaUnit.vector
    n_eval: int | None = None
    texts: Sequence[Sequence[int]] = ()
    n_verified: int | None = None
    n_mean_trials: int | None = None
    null_draws: int = 0
    null_screened: bool = False
    compared: Compared | None = None
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    seed: int = 42

    def engine(self) -> PricedEngine:
        """Priced version of the engine that the settings name."""
        return engine_of(self.lm, self.shape, self.compute)


def engine_of(lm: StandIn, shape: Shape, compute: ComputeConfig) -> PricedEngine:
    """Build the priced version of the engine that settings name (`fv.interventions.engines.make_engine`).

    Raises:
        ConfigError: the model's family does not allow this engine.
    """
    real = make_engine(lm, compute.sweep.value, compute.max_rows, compute.called("sweep"))
    prices: dict[type, Callable[[StandIn, Shape, int], PricedEngine]] = {
        SharedPrefixEngine: PricedSharedPrefix,
        ExpandedBatchEngine: PricedExpanded,
        NaiveEngine: PricedNaive,
    }
    return prices[type(real.engine)](lm, shape, real.max_rows)
