"""Names of vectors and rankings in tables, files and random draws, unique within a run for any names of relations.

A relation's vector has the relation's name. Other names are `global`, `file`, `<relation>@aie`, `<relation>@heads` and
`<source>@k5`. If a relation's name looks like one of these, `@qid` is added to it. For example, the vector of relation
`global` is `global@qid`. The vector of relation `a@aie` is `a@aie@qid`, since `a@aie` is the vector of `a` with the
AIE's heads. A name is read from its end: `@k<k>` is a number of heads, then `@aie` stands for the AIE's heads or
`@heads` for named heads, then `@qid` is the mark.
"""

import re

GLOBAL, FILE = "global", "file"
MARKS = {"qid": "", "aie_qid": "@aie", "heads": "@heads"}
"""Names of the vector of the AIE over all relations, and of a vector from a file; the first also names a ranking."""
_READS_LIKE_ANOTHER = re.compile(rf"(?:{GLOBAL}|{FILE})|.*@(?:aie|heads|qid|k[0-9]+)", re.DOTALL)


def relation_name(q_id: str) -> str:
    """Name of a relation's own vector and ranking: the relation's name, marked if it looks like another name."""
    return f"{q_id}@qid" if _READS_LIKE_ANOTHER.fullmatch(q_id) else q_id


def ranking_name(q_id: str | None) -> str:
    """Name of the ranking of heads by a relation's CIE, or by the AIE if `q_id` is None."""
    return GLOBAL if q_id is None else relation_name(q_id)


def source_name(kind: str, q_id: str | None) -> str:
    """Name of a vector, without its number of heads.

    Args:
        kind: `global`, `file`, `qid`, `aie_qid` or `heads`.
        q_id: the relation whose means the vector uses, for `qid`, `aie_qid` and `heads`; None for all relations.
    """
    if kind in (GLOBAL, FILE):
        return kind
    name = ranking_name(q_id)
    return f"{name}{MARKS[kind]}"


def vector_name(source: str, k: int | None) -> str:
    """Name of a vector; with `k` if its source has several vectors that differ in the number of heads."""
    return source if k is None else f"{source}@k{k}"
