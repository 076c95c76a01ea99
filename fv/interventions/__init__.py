"""Edits of the last prompt token, the engines that run them, what is read off, and the proof at load that edits act."""

from fv.interventions.answers import AnswerScores, injection_cost, score_answers
from fv.interventions.editable import EditableModel
from fv.interventions.edits import AddVector, LastTokenEdit, ReplaceResidual, SetHeads, edited_rows
from fv.interventions.engine import Cell, Engine, Head, LastToken, PatchScores, TargetScores
from fv.interventions.engines import make_engine
from fv.interventions.loading import load_model
from fv.interventions.wrapping import wrap

__all__ = [
    "AddVector",
    "AnswerScores",
    "Cell",
    "EditableModel",
    "Engine",
    "Head",
    "LastToken",
    "LastTokenEdit",
    "PatchScores",
    "ReplaceResidual",
    "SetHeads",
    "TargetScores",
    "edited_rows",
    "injection_cost",
    "load_model",
    "make_engine",
    "score_answers",
    "wrap",
]
