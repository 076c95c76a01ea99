"""Model holder: keeps the model between steps and jobs.

Imports no torch: an entrypoint makes a holder before it reads settings.
"""

from __future__ import annotations

import gc
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from fv.config import Config
from fv.config.group import Settings
from fv.progress import activity

if TYPE_CHECKING:
    from fv.models.language_model import LanguageModel


class ModelHolder:
    """Keeps the model that it loaded last.

    Steps that get the same holder load the model once.
    """

    def __init__(self) -> None:
        self._made_of: Settings = {}
        self._lm: LanguageModel | None = None

    def of(self, config: Config, fresh: bool = False) -> LanguageModel:
        """Load the model of `config`, unless it is loaded already with the same settings, device and dtype.

        The old model is released before another is loaded; a caller that still refers to it keeps it in memory. If
        the self-check was skipped at load, the first `config` that requests it runs it. A recorded pass of the same
        model counts (`fv.interventions.proofs`), unless a `fresh` self-check is requested.

        Raises:
            ModelError: the model cannot be found, has an unknown family, or fails its self-check.
        """
        from fv.interventions.loading import load_configured
        from fv.interventions.proofs import proof_of
        from fv.interventions.selfcheck import SKIPPED

        compute = config.compute
        # A copy: later changes of `config` must not change the settings of the loaded model.
        wanted = {**asdict(config.model), "device": compute.device, "dtype": compute.dtype}
        if self._lm is None or self._made_of != wanted:
            if self._lm is not None:
                self._lm = None
                gc.collect()  # hooks of placed modules refer to their modules, and these to them
            with activity(f"Loading {config.model.name}"):
                self._lm = load_configured(config.model, replace(compute, selfcheck=False))
            self._made_of = wanted
        if compute.selfcheck and (fresh or self._lm.selfcheck == SKIPPED):
            with activity(f"Proving that edits of {config.model.name} act"):
                self._lm = replace(self._lm, selfcheck=proof_of(self._lm, fresh))
        return self._lm if compute.selfcheck else replace(self._lm, selfcheck=SKIPPED)
