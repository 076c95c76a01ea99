"""What an injection costs elsewhere: how it changes the next token of unrelated texts (docs/methods.md, "Metrics")."""

from collections.abc import Sequence

import pandas as pd

from fv.evaluation.candidate import Candidate
from fv.evaluation.candidates import CandidatesOfRelations
from fv.evaluation.settled import Condition, recorded_cells, settled
from fv.interventions.engine import Cell, Engine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.vectors.vector import Vector


def encoded_alike(lm: LanguageModel, texts: Sequence[str], add_special_tokens: bool) -> list[list[int]]:
    """Token ids of texts, all cut to the tokens of the shortest.

    So they run as one batch; any beginning of an unrelated text is as unrelated as the whole.
    """
    ids = [lm.encode(text, add_special_tokens) for text in texts]
    shortest = min(map(len, ids))
    return [one[:shortest] for one in ids]


def conditions_as_run(
    of_relations: CandidatesOfRelations, q_id: str, vectors: Sequence[Vector], trials: pd.DataFrame
) -> list[list[Condition]]:
    """The conditions that edit a relation's zero-shot prompt, at the cells at which they were run on its test trials.

    Args:
        of_relations: makes the conditions.
        q_id: the relation.
        vectors: the function vectors that were injected.
        trials: trial rows of every condition.

    Returns:
        those of the relation's own prompts alone, and those that other relations have a part in.
    """
    named, rows = {vector.name: vector for vector in vectors}, trials[trials["eval_qid"] == q_id]
    injected = rows[rows["condition"] == "fv"].drop_duplicates("fv").sort_values("fv")
    cells = injected[["fv", "layer", "alpha"]].itertuples(index=False)
    chosen = [(named[fv], Cell(int(layer), float(alpha))) for fv, layer, alpha in cells]
    stream, found = of_relations.stream(q_id), []
    for candidates in of_relations.of(q_id, chosen):
        edited = costing(candidates)
        found.append(settled(edited, recorded_cells(edited, rows), stream))
    return found


def costing(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those whose cost is measured: all that edit the zero-shot prompt, refits left out."""
    return [one for one in candidates if one.prompt == "zero_shot" and one.edit is not None and not one.refit_of]


def injection_cost(
    engine: Engine, conditions: Sequence[Condition], texts: Sequence[Sequence[int]], q_id: str
) -> pd.DataFrame:
    """KL(unedited ‖ edited) of the next token behind each text, where the edit should change nothing.

    Args:
        engine: runs the texts.
        conditions: what is done to the last token, one or more.
        texts: token ids of each text.
        q_id: the relation whose conditions they are.

    Returns:
        one row a (condition, text): the columns that say which condition it is, `text`, and `kl` in nats.
    """
    # A text has no answer: any token is one whose probability nobody asks for.
    prompts = [Prompt(tuple(ids), (ids[-1],), name=f"the unrelated text {i}") for i, ids in enumerate(texts, 1)]
    # (n_texts, n_conditions)
    costs = engine.divergences(prompts, [condition.edit for condition in conditions]).numpy()
    by_condition = [
        pd.DataFrame({**condition.where(q_id), "text": range(len(costs)), "kl": costs[:, i]})
        for i, condition in enumerate(conditions)
    ]
    return pd.concat(by_condition, ignore_index=True)
