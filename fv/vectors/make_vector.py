"""Making of a vector from trials in memory, by any maker: the public face of `fv.vectors.making`."""

from collections.abc import Sequence
from typing import Any

from fv.data.origin import Origin, check_origin
from fv.data.trials import Trials
from fv.errors import ConfigError
from fv.heads.effects import KEYS, Effects, HeadEffects, checked_key
from fv.heads.ranking import Ranking
from fv.heads.relations import snapshot_for
from fv.interventions.compute import DEFAULT, Compute, checked_compute
from fv.interventions.engine import Cell
from fv.models.language_model import LanguageModel
from fv.progress import bars
from fv.vectors.function_vector import OTHER_MODEL
from fv.vectors.made_vector import MadeEdit, made_vector
from fv.vectors.maker import FitTrials
from fv.vectors.makers import makers_of
from fv.vectors.making import made
from fv.vectors.vector import Vector
from fv.work.driver import SERIAL


def make_vector(  # noqa: PLR0913 - each is a choice of its own
    lm: LanguageModel,
    trials: Trials,
    maker: str,
    *,
    effects: Effects | HeadEffects | None = None,
    cells: Sequence[Cell] | None = None,
    key: str = KEYS[0],
    seed: int | None = None,
    compute: Compute = DEFAULT,
    **settings: Any,
) -> Vector | MadeEdit:
    """Make a relation's vector, or another edit, from its fit trials by a maker (docs/methods.md, "Makers").

    Args:
        lm: the model.
        trials: trials of one relation, `trials["antonym"]`.
        maker: name of the maker, such as `mean_difference`; installed packages may add more.
        effects: effects of `fv.indirect_effects` on these trials. Makers that use means or rankings of heads need them.
        cells: the (layer, alpha) cells that the vector is made for; None for all layers at alpha 1.
        key: the column that ranks heads.
        seed: seed of every draw; None for the seed of `trials`.
        compute: engine, memory and progress bars.
        settings: settings of the maker.

    Returns:
        a vector with `values` (d_model,), or (n_layers, d_model), one per layer; a `MadeEdit` if the maker's edits are
        no injections of a vector.

    Raises:
        ConfigError: a name or a value is not possible, the maker needs effects, or they come from another model.
        TrialError: `trials` have no fit trials or several relations, or were tokenised by another tokenizer.

    Example:
        >>> vector = fv.make_vector(lm, trials["antonym"], "mean_difference", effects=effects)
        >>> vector.name, tuple(vector.values.shape)
        ('antonym@mean_difference', (30, 576))
    """
    (one,) = makers_of([maker], {maker: settings}).values()
    snapshot = snapshot_for(lm, trials)
    if len(snapshot.qids) > 1:
        raise ConfigError(f"trials have several relations; take one, such as trials[{snapshot.qids[0]!r}].")
    (q_id,) = snapshot.qids
    fit = FitTrials(
        lm=lm,
        engine=checked_compute(compute).engine_for(lm),
        snapshot=snapshot,
        q_id=q_id,
        effects=_measured(lm, maker, q_id, effects),
        ranking=Ranking(checked_key(key), 10),
        cells=[Cell(layer, 1.0) for layer in range(lm.n_layers)] if cells is None else [Cell(*cell) for cell in cells],
        seed=snapshot.meta.seed if seed is None else seed,
    )
    with bars(compute.progress):
        options = SERIAL.run(made({maker: one}, {q_id: fit}), "Makers")[q_id, maker].options
    origin = Origin.of(lm, snapshot)
    vector = made_vector(maker, q_id, options, origin)
    return MadeEdit(maker, q_id, options, origin, lm.n_layers) if vector is None else vector


def _measured(lm: LanguageModel, maker: str, q_id: str, effects: Any) -> Any:
    """The effects, checked; stand-ins that refuse every use if there are none.

    Raises:
        ConfigError: they are no effects, lack the relation, or come from another model.
    """
    if effects is None:
        return _NotMeasured(maker)
    found = effects.measured if isinstance(effects, HeadEffects) else effects
    if not isinstance(found, Effects):
        raise ConfigError(f"effects is a {type(found).__name__}; pass the effects that fv.indirect_effects returns.")
    if q_id not in found:
        raise ConfigError(f"effects lack {q_id}: measure the relation of the trials.")
    check_origin("effects are", found.origin, lm, remedy=OTHER_MODEL)
    return found


class _NotMeasured:
    def __init__(self, maker: str) -> None:
        self._maker = maker

    def __getattr__(self, name: str) -> Any:
        raise ConfigError(
            f"The maker {self._maker} needs effects, for means of activations and rankings of heads: pass "
            "effects=fv.indirect_effects(lm, trials)."
        )
