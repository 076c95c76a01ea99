"""Cost of an injection: the change that it causes in the next token of unrelated texts (docs/methods.md, "Metrics")."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fv.data.prompt_kinds import ZERO_SHOT
from fv.evaluation.candidate import Candidate
from fv.evaluation.candidates import CandidatesOfRelations
from fv.evaluation.condition import Condition, recorded_options, settled
from fv.interventions.engine import Cell, Engine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.tables import stacked
from fv.vectors.vector import Vector


def encoded_alike(lm: LanguageModel, texts: Sequence[str], add_special_tokens: bool) -> list[list[int]]:
    """Token ids of texts, all cut to the length of the shortest, so that they run as one batch.

    The beginning of an unrelated text is as unrelated as the whole text.
    """
    ids = [lm.encode(text, add_special_tokens) for text in texts]
    shortest = min(map(len, ids))
    return [one[:shortest] for one in ids]


def unrelated_prompts(texts: Sequence[Sequence[int]]) -> list[Prompt]:
    """Prompts of unrelated texts, given as token ids."""
    # A prompt needs a target, but a text has no answer: any token does, since its probability is not used.
    return [Prompt(tuple(ids), (ids[-1],), name=f"the unrelated text {i}") for i, ids in enumerate(texts, 1)]


def conditions_as_run(
    of_relations: CandidatesOfRelations, q_id: str, vectors: Sequence[Vector], trials: pd.DataFrame
) -> list[list[Condition]]:
    """Conditions that edit a relation's zero-shot prompt, with the options of their run on its test trials.

    Args:
        of_relations: maker of the conditions.
        q_id: the relation.
        vectors: the injected function vectors.
        trials: trial rows of every condition.

    Returns:
        two lists: the conditions that depend on this relation alone, and those that depend on other relations as well.
    """
    named, rows = {vector.name: vector for vector in vectors}, trials[trials["eval_qid"] == q_id]
    injected = rows[rows["condition"] == "fv"].drop_duplicates("fv").sort_values("fv")
    cells = injected[["fv", "layer", "alpha"]].itertuples(index=False)
    chosen = [(named[fv], Cell(int(layer), float(alpha))) for fv, layer, alpha in cells]
    stream, found = of_relations.stream(q_id), []
    for candidates in of_relations.of(q_id, chosen):
        edited = costing(candidates)
        found.append(settled(edited, recorded_options(edited, rows), stream))
    return found


def costing(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Select the candidates whose cost is measured: all that edit the zero-shot prompt, except refits."""
    return [one for one in candidates if one.prompt == ZERO_SHOT and one.options.is_edit and not one.refit_of]


def injection_cost(
    engine: Engine, conditions: Sequence[Condition], texts: Sequence[Sequence[int]], q_id: str
) -> pd.DataFrame:
    """Compute KL(unedited ‖ edited) of the next token after each text, which the edit should not change.

    Args:
        engine: the engine that runs the texts.
        conditions: one or more conditions, which edit the last token.
        texts: token ids of each text.
        q_id: the relation of these conditions.

    Returns:
        one row per (condition, text): the condition's columns, `text`, and `kl` in nats.
    """
    # (n_texts, n_conditions)
    costs = engine.divergences(unrelated_prompts(texts), [condition.edit for condition in conditions]).numpy()
    blocks = [{"text": np.arange(len(costs)), "kl": costs[:, i]} for i in range(len(conditions))]
    return stacked([condition.where(q_id) for condition in conditions], blocks)
