"""Writers of StepD's files other than the snapshot (spec section 4); `fv.runs.results` reads them."""

from fv.data.snapshot import Snapshot
from fv.heads.activations import mean_of_means
from fv.heads.effects import Effects
from fv.heads.indirect_effect import TrialEffects
from fv.heads.relations import effect_tables
from fv.runs.effect_files import write_trial_effects
from fv.runs.mean_files import write_clean_mean, write_other_means, write_prompt_outputs
from fv.runs.outputs import Outputs
from fv.runs.paths import RunPaths


def write_effects(outputs: Outputs, snapshot: Snapshot, effects: Effects) -> None:
    """Write the effects of each trial, and their tables.

    Args:
        outputs: the step's outputs.
        snapshot: the trials.
        effects: the effects of all relations.
    """
    for name, table in effect_tables(effects)._asdict().items():
        outputs.csv(f"{name}.csv", table)
    of_trials = effects.effects
    patched = [trial for q_id, own in of_trials.items() for trial in snapshot.of(q_id, "fit", own.n_trials)]
    write_trial_effects(
        outputs.add(outputs.folder / "cie_trials.npz"),
        [trial.trial_id for trial in patched],
        [trial.q_id for trial in patched],
        TrialEffects.cat([*of_trials.values()]),
    )
    outputs.jsonl(
        "trial_metrics.jsonl",
        ({str(key): value for key, value in row.items()} for row in effects.prompts.to_dict("records")),
    )


def write_means(outputs: Outputs, paths: RunPaths, effects: Effects, d_model: int) -> None:
    """Write the means of each relation, and the mean of these means.

    Args:
        outputs: the step's outputs.
        paths: the paths of the run.
        effects: the effects of all relations.
        d_model: the width of the residual stream.
    """
    for q_id, own in effects.means.items():
        write_clean_mean(outputs.add(paths.qid_mean(q_id)), own.clean, d_model)
        write_other_means(outputs.add(paths.qid_other_means(q_id)), own)
        assert own.prompts is not None
        write_prompt_outputs(outputs.add(paths.qid_prompt_outputs(q_id)), own.prompts)
    global_mean = mean_of_means([own.clean for own in effects.means.values()])  # (n_layers, n_heads, head_dim)
    write_clean_mean(outputs.add(paths.mean_acts / "global_clean_mean.pt"), global_mean, d_model)
    # The public reference code expects a token-slot axis before head_dim.
    outputs.torch("mean_activations.pt", global_mean[:, :, None, :].clone())
