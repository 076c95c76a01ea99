"""Language models: loaded models, and the modules of their families that hold the heads.

The names here need no torch. `LanguageModel` is in `fv.models.language_model`; `fv.interventions.load_model` loads one,
and `fv.interventions.wrap` takes one that is in memory.
"""

from fv.models.prompt import Prompt
from fv.models.spec import SPECS, ModelSpec, find_spec

__all__ = [
    "SPECS",
    "ModelSpec",
    "Prompt",
    "find_spec",
]
