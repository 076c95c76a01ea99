"""The settings of analyses, the project's own and those of installed packages, as Hydra knows them."""

import sys

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fv.analyses import known_analyses
from fv.errors import PluginError

DEFAULT = "default"
"""The choice of those that are run unless others are named."""


def add_analyses() -> None:
    """Store the settings of every analysis as a choice of the group `analysis`, each in a place of its own, so that
    several can be chosen; end with a line where two have one name, or settings are of a type that no command line could
    give."""
    try:
        analyses = known_analyses()
    except PluginError as error:
        sys.exit(f"{error}")
    store = ConfigStore.instance()
    for name, analysis in analyses.items():
        try:
            OmegaConf.structured(analysis)
        except OmegaConfBaseException as error:
            sys.exit(f"The analysis {name} ({analysis.__module__}:{analysis.__name__}) has unfit settings: {error}")
        store.store(group="analysis", name=name, node=analysis, package=f"analysis.{name}")
    by_default = [name for name, analysis in analyses.items() if analysis.default]
    store.store(group="analysis", name=DEFAULT, node={"defaults": by_default})
