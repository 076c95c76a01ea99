"""Remedies for the library's errors: the settings to change, which the library itself does not know."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fv.errors import (
    DevTrialsError,
    EngineError,
    FvError,
    MemoryLackError,
    NotFiniteError,
    NoVectorError,
    ScopeError,
    SpecError,
)

REMEDIES: Mapping[type[FvError], str] = {
    DevTrialsError: (
        "Trials are sampled by data.n_eval_trials_per_q and cut by injection.n_eval, relations are named by data.qids, "
        "the share is evaluation.dev_fraction."
    ),
    EngineError: "The engine is compute.sweep.",
    NoVectorError: (
        "Leave it out of injection.fv: 'analysis=[baselines]' evaluates such edits beside injected vectors."
    ),
    NotFiniteError: (
        "The number format is compute.dtype, with compute.strict=false unless it is fp32; strengths are "
        "injection.alpha. Finished units are kept."
    ),
    MemoryLackError: (
        "Finished units are kept. Fewer examples are data.n_demos, the format is compute.dtype with "
        "compute.strict=false, and compute=cuda_sharded uses all GPUs (docs/engine.md)."
    ),
    ScopeError: (
        "A relation's own vector is injection.fv=qid injection.fv_source_qid=<q_id>; relations to evaluate on are "
        "eval_scope=all_qids, or eval_scope=qid_list eval_scope.qids=[…]."
    ),
    SpecError: "The spec is chosen by model.spec, or described in model.spec_file=<file>.yaml (docs/models.md).",
}


@contextmanager
def with_remedies() -> Iterator[None]:
    """Add its remedy to an error of the library; also a decorator."""
    try:
        yield
    except tuple(REMEDIES) as error:
        raise type(error)(f"{error} {REMEDIES[type(error)]}") from error
