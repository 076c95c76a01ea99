"""Interventions: edits of a running model, engines that run many edits, scores, and a proof at load that edits act."""

from fv.interventions.answers import AnswerScores, score_answers
from fv.interventions.compute import Compute
from fv.interventions.edit import Edit, LastTokenEdit
from fv.interventions.editable import EditableModel
from fv.interventions.edits import (
    AddHeads,
    AddKeepingNorm,
    AddLinear,
    AddToAttention,
    AddToMLP,
    AddVector,
    Edits,
    Mix,
    ReplaceResidual,
    SetHeads,
)
from fv.interventions.engine import Cell, Engine, Head, LastToken, PatchScores, TargetScores
from fv.interventions.engines import make_engine
from fv.interventions.gradient_scores import head_scores
from fv.interventions.loading import load_model
from fv.interventions.place import Part, Place
from fv.interventions.positions import Positions
from fv.interventions.row_edits import edited_rows
from fv.interventions.wrapping import wrap

__all__ = [
    "AddHeads",
    "AddKeepingNorm",
    "AddLinear",
    "AddToAttention",
    "AddToMLP",
    "AddVector",
    "AnswerScores",
    "Cell",
    "Compute",
    "Edit",
    "EditableModel",
    "Edits",
    "Engine",
    "Head",
    "LastToken",
    "LastTokenEdit",
    "Mix",
    "Part",
    "PatchScores",
    "Place",
    "Positions",
    "ReplaceResidual",
    "SetHeads",
    "TargetScores",
    "edited_rows",
    "head_scores",
    "load_model",
    "make_engine",
    "score_answers",
    "wrap",
]
