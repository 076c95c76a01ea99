"""Loading a model and proving that edits act on it."""

from dataclasses import replace

from fv.config import ComputeConfig, ModelConfig
from fv.interventions.selfcheck import selfcheck
from fv.models.language_model import LanguageModel
from fv.models.loading import load_unproved
from fv.models.quiet import quiet_transformers

SKIPPED = {"skipped": True}
"""What stands for the measurements of a self-check that was not made."""


def load_model(model: ModelConfig, compute: ComputeConfig) -> LanguageModel:
    """Load, place and check a model. Nothing keeps it but the caller.

    Raises:
        ModelError: it cannot be found, is of an unknown family, or fails its self-check.
    """
    with quiet_transformers():
        lm = load_unproved(model, compute)
    return replace(lm, selfcheck=selfcheck(lm) if compute.selfcheck else SKIPPED)
