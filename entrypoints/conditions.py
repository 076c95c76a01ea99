"""The settings of conditions, the project's own and those of installed packages, as Hydra knows them."""

import sys

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from fv.errors import PluginError
from fv.evaluation.conditions import condition_providers


def add_conditions(schema: DictConfig) -> None:
    """Add the settings of every provider to the schema of a `Config`, each under its name; end with a line where two
    have one name, or settings are of a type that no command line could give."""
    try:
        providers = condition_providers()
    except PluginError as error:
        sys.exit(f"{error}")
    for name, provider in providers.items():
        try:
            schema.evaluation.conditions[name] = provider
        except OmegaConfBaseException as error:
            sys.exit(f"The condition {name} ({provider.__module__}:{provider.__name__}) has unfit settings: {error}")
