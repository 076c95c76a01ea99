"""Names of vectors and rankings in tables, files and random draws, unique within a run for any names of relations.

A relation's vector has the relation's name. Other names are `global`, `file`, `<relation>@aie`, `<relation>@heads`,
`<relation>@<maker>` and `<source>@k5`. If a relation's name looks like one of these, `@qid` is added to it; a name that
looks like a maker's vector is left as it is, and refused beside that vector. For example, the vector of relation
`global` is `global@qid`. The vector of relation `a@aie` is `a@aie@qid`, since `a@aie` is the vector of `a` with the
AIE's heads. A name is read from its end: `@k<k>` is a number of heads, then `@aie` stands for the AIE's heads or
`@heads` for named heads, then `@qid` is the mark.
"""

import re

from fv.vectors.kinds import FILE, GLOBAL, kind_of

_READS_LIKE_ANOTHER = re.compile(rf"(?:{GLOBAL.name}|{FILE.name})|.*@(?:aie|heads|qid|k[0-9]+)", re.DOTALL)


def relation_name(q_id: str) -> str:
    """Name of a relation's own vector and ranking: the relation's name, marked if it looks like another name."""
    return f"{q_id}@qid" if _READS_LIKE_ANOTHER.fullmatch(q_id) else q_id


def ranking_name(q_id: str | None) -> str:
    """Name of the ranking of heads by a relation's CIE, or by the AIE if `q_id` is None."""
    return GLOBAL.name if q_id is None else relation_name(q_id)


def source_name(kind: str, q_id: str | None) -> str:
    """Name of a vector, without its number of heads.

    Args:
        kind: the name of its kind (`fv.vectors.kinds.kind_of`).
        q_id: the relation whose means the vector uses; None for all relations.
    """
    mark = kind_of(kind).mark
    return kind if mark is None else f"{ranking_name(q_id)}{mark}"


def vector_name(source: str, k: int | None) -> str:
    """Name of a vector; with `k` if its source has several vectors that differ in the number of heads."""
    return source if k is None else f"{source}@k{k}"
