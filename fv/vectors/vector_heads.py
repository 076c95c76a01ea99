"""Vectors built from measured effects, and the heads that a given vector was built from."""

from dataclasses import replace

from torch import Tensor

from fv.heads.effects import Effects
from fv.heads.ranking import Ranking, VectorHeads
from fv.models.language_model import LanguageModel
from fv.vectors.function_vector import vector_of_heads
from fv.vectors.kinds import HeadsBy
from fv.vectors.vector import Vector


def vector_of(
    lm: LanguageModel,
    effects: Effects,
    q_id: str | None,
    ranking: Ranking,
    k: int,
    aie: bool = False,
    name: str = "k",
) -> Tensor:
    """Function vector of a relation, or the global one, (d_model,). Arguments as in `Effects.heads_of`."""
    made_of = effects.heads_of(q_id, ranking, k, aie, name)
    return vector_of_heads(lm, made_of.means.clean, made_of.heads)


def heads_of_vector(effects: Effects, vector: Vector, ranking: Ranking) -> VectorHeads | None:
    """Heads that a vector was built from: the heads it names, or else the best of the ranking.

    None for a vector without known heads, such as one from a file, or if its relation was not measured.
    """
    if not vector.made_as.has_heads or vector.k is None:
        return None
    if vector.source_qid is not None and vector.source_qid not in effects:
        return None
    found = effects.heads_of(vector.source_qid, ranking, vector.k, aie=vector.made_as.heads_by is HeadsBy.aie)
    # The vector's heads may have been ranked by another column, or by other effects.
    return replace(found, heads=vector.heads) if vector.heads else found
