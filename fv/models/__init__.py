"""Language models: loading one, and knowing where its heads are.

Here are the names that need no torch; `LanguageModel` is in `fv.models.language_model`, and
`fv.interventions.load_model` loads one, and `fv.interventions.wrap` takes one that is in memory.
"""

from fv.models.prompt import Prompt
from fv.models.spec import SPECS, ModelSpec, find_spec

__all__ = [
    "SPECS",
    "ModelSpec",
    "Prompt",
    "find_spec",
]
