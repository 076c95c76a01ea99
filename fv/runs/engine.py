"""The engine that a run's settings name."""

from fv.config import Config
from fv.interventions.engine import Engine
from fv.interventions.engines import make_engine
from fv.models.language_model import LanguageModel


def engine_of(config: Config, lm: LanguageModel) -> Engine:
    """The engine of `config.compute` for a model.

    Raises:
        ConfigError: it was asked of a family whose spec does not allow it.
    """
    compute = config.compute
    return make_engine(lm, compute.sweep.value, compute.max_rows, compute.called("sweep"))
