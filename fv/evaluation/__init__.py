"""What injected vectors do: grid, choice on dev trials, conditions on test trials, transfer, tables."""

from fv.evaluation.candidates import Candidate, CandidatesOfRelations
from fv.evaluation.conditions import Condition, Stream
from fv.evaluation.dev_choice import DevChoice
from fv.evaluation.grid import Grid, eval_parts, evaluate_vectors, trials_of
from fv.evaluation.held_out import HeldOutRows, HeldOutRun
from fv.evaluation.scope import scope_of
from fv.evaluation.selection import best_cell, choose_cells
from fv.evaluation.summary import summarise
from fv.evaluation.tables import contrasts_table, cost_table, means_table
from fv.evaluation.transfer import dominance, transfer_table
from fv.evaluation.trial_rows import EvalTrial

__all__ = [
    "Candidate",
    "CandidatesOfRelations",
    "Condition",
    "DevChoice",
    "EvalTrial",
    "Grid",
    "HeldOutRows",
    "HeldOutRun",
    "Stream",
    "best_cell",
    "choose_cells",
    "contrasts_table",
    "cost_table",
    "dominance",
    "eval_parts",
    "evaluate_vectors",
    "means_table",
    "scope_of",
    "summarise",
    "transfer_table",
    "trials_of",
]
