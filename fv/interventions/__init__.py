"""Interventions: edits of a running model, engines that run many edits, scores, and a proof at load that edits act."""

from fv.interventions.answers import AnswerScores, score_answers
from fv.interventions.compute import Compute
from fv.interventions.editable import EditableModel
from fv.interventions.edits import AddVector, AnyEdit, LastTokenEdit, ReplaceResidual, SetHeads, edited_rows
from fv.interventions.engine import Cell, Engine, Head, LastToken, PatchScores, TargetScores
from fv.interventions.engines import make_engine
from fv.interventions.gradient_scores import head_scores
from fv.interventions.loading import load_model
from fv.interventions.positions import Positions
from fv.interventions.wrapping import wrap

__all__ = [
    "AddVector",
    "AnswerScores",
    "AnyEdit",
    "Cell",
    "Compute",
    "EditableModel",
    "Engine",
    "Head",
    "LastToken",
    "LastTokenEdit",
    "PatchScores",
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
