"""What vectors and rankings are called in tables, files and draws: no two of a run share a name, whatever its relations
are called.

A relation's vector is called as the relation is, and stands beside `global`, `file`, `<relation>@aie`,
`<relation>@heads` and `<source>@k5`. Only a relation that reads like one of these is marked, by `@qid` behind its name:
the vector of the relation `global` is `global@qid`; that of `a@aie`, which is not the AIE's vector of `a`, is
`a@aie@qid`. A name is read back from its end: `@k<k>` is a number of heads, then `@aie` the AIE's heads or `@heads`
others that were named, then `@qid` the mark.
"""

import re

GLOBAL, FILE = "global", "file"
MARKS = {"qid": "", "aie_qid": "@aie", "heads": "@heads"}
"""The vector of the AIE over all relations, and one from a file; the first is also the ranking by that AIE."""
_READS_LIKE_ANOTHER = re.compile(rf"(?:{GLOBAL}|{FILE})|.*@(?:aie|heads|qid|k[0-9]+)", re.DOTALL)


def relation_name(q_id: str) -> str:
    """What a relation's own vector and ranking are called: the relation's name, marked where it reads like another."""
    return f"{q_id}@qid" if _READS_LIKE_ANOTHER.fullmatch(q_id) else q_id


def ranking_name(q_id: str | None) -> str:
    """What the ranking of heads by a relation's CIE is called, or by the AIE over all."""
    return GLOBAL if q_id is None else relation_name(q_id)


def source_name(kind: str, q_id: str | None) -> str:
    """What a vector is called, whatever number of heads it is made of.

    Args:
        kind: `global`, `file`, `qid`, `aie_qid` or `heads`.
        q_id: the relation whose means it is made of, for `qid`, `aie_qid` and `heads`; None there for all relations.
    """
    if kind in (GLOBAL, FILE):
        return kind
    name = ranking_name(q_id)
    return f"{name}{MARKS[kind]}"


def vector_name(source: str, k: int | None) -> str:
    """What a vector is called; with `k`, as one of several of its source that differ in their number of heads."""
    return source if k is None else f"{source}@k{k}"
