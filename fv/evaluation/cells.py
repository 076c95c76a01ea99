"""Cells of the injection grid: pairs of layer and strength (spec section 2)."""

from collections.abc import Sequence

from fv.config import InjectionConfig
from fv.heads.ranking import choose_indices
from fv.interventions.engine import Cell


def grid(injection: InjectionConfig, n_layers: int) -> list[Cell]:
    """All (layer, alpha) cells of the settings, by layer then alpha.

    Raises:
        ConfigError: a layer is out of range.
    """
    layers = choose_indices(injection.layer, n_layers, injection.called("layer"))
    return [Cell(layer, alpha) for layer in layers for alpha in injection.alpha]


def weaker_cells(cells: Sequence[Cell], shares: Sequence[float]) -> list[Cell]:
    """Add weaker cells: in each layer, `shares` of the weakest alpha of each sign. Sorted by layer, then alpha.

    Controls may choose among these, since at the function vector's own strengths a control may only do harm.
    """
    alphas = sorted({cell.alpha for cell in cells if cell.alpha}, key=abs)
    weakest = [*[a for a in alphas if a > 0][:1], *[a for a in alphas if a < 0][:1]]
    more = {Cell(layer, alpha * share) for layer in {c.layer for c in cells} for alpha in weakest for share in shares}
    return sorted({*cells, *more})
