"""Edits, one kind per file (`fv.interventions.edit`)."""

from fv.interventions.edit import Edit, LastTokenEdit
from fv.interventions.edits.add_heads import AddHeads
from fv.interventions.edits.add_keeping_norm import AddKeepingNorm
from fv.interventions.edits.add_linear import AddLinear
from fv.interventions.edits.add_to_attention import AddToAttention
from fv.interventions.edits.add_to_mlp import AddToMLP
from fv.interventions.edits.add_vector import AddVector
from fv.interventions.edits.mix import Mix
from fv.interventions.edits.replace_residual import ReplaceResidual
from fv.interventions.edits.set_heads import SetHeads
from fv.interventions.edits.together import Edits

__all__ = [
    "AddHeads",
    "AddKeepingNorm",
    "AddLinear",
    "AddToAttention",
    "AddToMLP",
    "AddVector",
    "Edit",
    "Edits",
    "LastTokenEdit",
    "Mix",
    "ReplaceResidual",
    "SetHeads",
]
