"""The cells of the injection grid: behind which block, how strongly (spec section 2)."""

from collections.abc import Sequence

from fv.config import InjectionConfig
from fv.heads.ranking import choose_indices
from fv.interventions.engine import Cell


def grid(injection: InjectionConfig, n_layers: int) -> list[Cell]:
    """The (layer, alpha) cells, by layer then alpha.

    Raises:
        ConfigError: a layer is out of range.
    """
    layers = choose_indices(injection.layer, n_layers, injection.called("layer"))
    return [Cell(layer, alpha) for layer in layers for alpha in injection.alpha]


def weaker_cells(cells: Sequence[Cell], shares: Sequence[float]) -> list[Cell]:
    """The cells, and in each of their layers `shares` of the weakest alpha of each sign, by layer then alpha.

    What a vector is compared with may choose among these: at the vector's own strengths it may do nothing but harm.
    """
    alphas = sorted({cell.alpha for cell in cells if cell.alpha}, key=abs)
    weakest = [*[a for a in alphas if a > 0][:1], *[a for a in alphas if a < 0][:1]]
    more = {Cell(layer, alpha * share) for layer in {c.layer for c in cells} for alpha in weakest for share in shares}
    return sorted({*cells, *more})
