"""Function vectors: their heads, names, controls, refits, options and files.

This module exports the options that dev trials choose among, which need no torch. Import all others from their own
modules.
"""

from fv.vectors.options import Fixed, Injected, LayerEdits, LayerVectors, Option, Options, Scaled
from fv.vectors.stream import Stream

__all__ = ["Fixed", "Injected", "LayerEdits", "LayerVectors", "Option", "Options", "Scaled", "Stream"]
