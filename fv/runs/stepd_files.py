"""StepD's files beside the snapshot, as they are written (spec section 4); `fv.runs.results` reads them."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from fv.data.snapshot import Snapshot
from fv.heads.activations import RelationMeans
from fv.heads.indirect_effect import TrialEffects
from fv.heads.relations import EffectTables
from fv.runs.effect_files import write_trial_effects
from fv.runs.mean_files import write_clean_mean, write_other_means
from fv.runs.outputs import Outputs
from fv.runs.paths import RunPaths


def write_effects(
    outputs: Outputs,
    snapshot: Snapshot,
    effects: Mapping[str, TrialEffects],
    tables: EffectTables,
    prompts: Iterable[dict[str, Any]],
) -> None:
    """Write what was measured trial by trial, and its tables.

    Args:
        outputs: the step's.
        snapshot: the trials.
        effects: {q_id: effects of its first fit trials}.
        tables: of these effects.
        prompts: `fv.heads.relations.prompt_rows`.
    """
    for name, table in tables._asdict().items():
        outputs.csv(f"{name}.csv", table)
    patched = [trial for q_id, own in effects.items() for trial in snapshot.of(q_id, "fit", own.n_trials)]
    write_trial_effects(
        outputs.add(outputs.folder / "cie_trials.npz"),
        [trial.trial_id for trial in patched],
        [trial.q_id for trial in patched],
        TrialEffects.cat([*effects.values()]),
    )
    outputs.jsonl("trial_metrics.jsonl", prompts)


def write_means(
    outputs: Outputs, paths: RunPaths, means: Mapping[str, RelationMeans], global_mean: Tensor, d_model: int
) -> None:
    """Write the means of each relation, and their own mean.

    Args:
        outputs: the step's.
        paths: the run's.
        means: {q_id: its means}.
        global_mean: of the clean means, (n_layers, n_heads, head_dim).
        d_model: the width of the residual stream.
    """
    for q_id, own in means.items():
        write_clean_mean(outputs.add(paths.qid_mean(q_id)), own.clean, d_model)
        write_other_means(outputs.add(paths.qid_other_means(q_id)), own)
    write_clean_mean(outputs.add(paths.mean_acts / "global_clean_mean.pt"), global_mean, d_model)
    # The public reference code expects a token-slot axis before head_dim.
    outputs.torch("mean_activations.pt", global_mean[:, :, None, :].clone())
