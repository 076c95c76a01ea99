"""Proofs of earlier loads: a model that has passed its self-check need not pass it at every start.

A proof is valid only for the same weights, spec, precision, device, processor, versions and engine revision. Only
self-checks that passed are kept, so a refused model is checked again each time.
"""

import importlib.metadata
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fv.errors import ArtifactError
from fv.files import JsonObject, digest_of, read_json, write_json
from fv.interventions.engines import ENGINE_REVISION
from fv.interventions.selfcheck import selfcheck
from fv.models.gguf import cache_root
from fv.models.language_model import LanguageModel, weights_of

PACKAGES = ("function-vectors", "torch", "transformers")
log = logging.getLogger(__name__)


def proof_of(lm: LanguageModel, fresh: bool = False) -> JsonObject:
    """The measurements of a model's self-check, which is made now unless it was passed before.

    Args:
        lm: a model from files; a model in memory may have been changed since it was proved.
        fresh: whether to make the self-check in any case.

    Raises:
        SpecError: the self-check refuses the model.
    """
    of = _made_from(lm)
    path = cache_root() / "proofs" / f"{digest_of(of)[:32]}.json"
    if not fresh and (known := _read(path, of)) is not None:
        log.info("%s was proved before (%s).", lm.name, path)
        return known
    measured = selfcheck(lm)
    try:
        write_json(path, {"of": of, "measured": measured})
    except OSError as error:  # without a cache, the next start takes a few seconds longer
        log.info("The proof of %s cannot be kept: %s.", lm.name, error)
    return measured


def _made_from(lm: LanguageModel) -> JsonObject:
    """All that a proof depends on, as a JSON value."""
    weight: Any = lm.out_projs[0].weight
    return {
        "weights": weights_of(lm.fingerprint),
        "spec": asdict(lm.spec),
        "dtype": [str(lm.dtype), str(weight.dtype), *(["tf32"] if torch.backends.cuda.matmul.allow_tf32 else [])],
        "device": [str(lm.device), str(getattr(lm.model, "hf_device_map", None))],
        "processor": torch.backends.cpu.get_cpu_capability(),
        "engine": ENGINE_REVISION,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _read(path: Path, of: JsonObject) -> JsonObject | None:
    try:
        kept = read_json(path)
        return kept["measured"] if digest_of(kept["of"]) == digest_of(of) else None
    except (ArtifactError, KeyError, TypeError):
        return None
