"""Scope of a vector: the relations that it is evaluated on (spec section 2)."""

from collections.abc import Sequence

from fv.config import EvalScopeConfig, ScopeMode
from fv.config.injection import choice_of
from fv.errors import ScopeError, shorten
from fv.vectors.vector import Vector


def scope_of(vector: Vector, scope: EvalScopeConfig, known: Sequence[str]) -> list[str]:
    """Relations that one vector is evaluated on.

    `auto` means `in_domain` for a vector of one relation, and `all_qids` for any other vector.

    Raises:
        ScopeError: `in_domain` is set for a vector without a relation, or a q_id is not in the snapshot.
    """
    mode = scope.mode
    if mode is ScopeMode.auto:
        mode = ScopeMode.all_qids if vector.source_qid is None else ScopeMode.in_domain
    if mode is ScopeMode.all_qids:
        return list(known)
    if mode is ScopeMode.in_domain and vector.source_qid is None:
        others = f"all_qids, and qid_list with {scope.called('qids')}=[…]"
        raise ScopeError(
            f"{scope.called('mode')}=in_domain needs a vector of one relation, but the {vector.name} vector has "
            f"none. Other modes are {others}; the snapshot has {shorten(list(known), 40)}."
        )
    wanted = scope.qids if mode is ScopeMode.qid_list else [str(vector.source_qid)]
    unknown = sorted(set(wanted or []) - set(known))
    if unknown:
        raise ScopeError(
            f"q_id {shorten(unknown)} has no trials to evaluate on; the snapshot has {shorten(list(known), 40)}."
        )
    return list(wanted or [])


def scope_of_kinds(mode: str, kinds: Sequence[str], source_qid: str | None) -> str:
    """The scope that a mode comes to; where `auto` is another for each kind of vector, all of them.

    Args:
        mode: the mode.
        kinds: the choices of vectors, by name.
        source_qid: the relation of a vector from a file, if any.
    """
    if mode != ScopeMode.auto:
        return mode
    modes = {kind: choice_of(kind).has_relation(source_qid) for kind in kinds}
    on = {kind: (ScopeMode.in_domain if own else ScopeMode.all_qids).value for kind, own in modes.items()}
    scopes = {*on.values()}
    return scopes.pop() if len(scopes) == 1 else ", ".join(f"{kind} on {scope}" for kind, scope in on.items())
