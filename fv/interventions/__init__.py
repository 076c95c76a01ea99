"""Edits of a running model, engines that run many of them, what is read off, and the proof at load that they act."""

from fv.interventions.answers import AnswerScores, score_answers
from fv.interventions.compute import Compute
from fv.interventions.editable import EditableModel
from fv.interventions.edits import AddVector, AnyEdit, LastTokenEdit, ReplaceResidual, SetHeads, edited_rows
from fv.interventions.engine import Cell, Engine, Head, LastToken, PatchScores, TargetScores
from fv.interventions.engines import make_engine
from fv.interventions.loading import load_model
from fv.interventions.positions import Positions
from fv.interventions.screening import head_scores
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
