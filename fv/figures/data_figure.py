"""Figures that carry their table, and are saved to the same bytes under any matplotlib settings of the user."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

COLUMN = 3.3
"""Width of one column of a two-column paper, in inches."""
SMALL, BASE = 6.0, 7.0
"""Sizes of letters, in points: ticks and legends, titles and labels."""
INK, GREY = "#1a1a1a", "#8c8c8c"


class PatchLook(TypedDict):
    """Look of an area, as keywords of matplotlib."""

    facecolor: str
    edgecolor: str
    hatch: str


HATCHED = PatchLook(facecolor="#e6e6e6", edgecolor=GREY, hatch="//////")
"""Look of cells that were not measured."""
STYLE: dict[str, object] = {
    "font.family": "sans-serif",
    # This font comes with matplotlib, so letters are the same everywhere.
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": BASE,
    "axes.labelsize": BASE,
    "axes.labelpad": 2.0,
    "axes.titlesize": BASE,
    "axes.linewidth": 0.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    # A dollar sign in a relation's name must not start a formula.
    "text.parse_math": False,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.color": INK,
    "ytick.color": INK,
    **{f"{axis}tick.major.width": 0.5 for axis in "xy"},
    **{f"{axis}tick.major.size": 2.0 for axis in "xy"},
    **{f"{axis}tick.major.pad": 1.5 for axis in "xy"},
    "legend.fontsize": SMALL,
    "hatch.linewidth": 0.4,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    # Text stays text, so the browser can search it, and show letters that matplotlib's own font lacks.
    "svg.fonttype": "none",
    "svg.hashsalt": "function-vectors",
}
_UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "ps": {"CreationDate": None}}
_SCREEN_DPI = 160
_LACKING = "Glyph .* missing from font"
# Legends: height of a line in inches; gaps in widths of a letter.
_LINE, _HANDLE_PAD, _COLUMN_GAP = 0.125, 0.6, 1.2


@contextmanager
def styled() -> Iterator[None]:
    """Use matplotlib's defaults and `STYLE` instead of the user's settings, which are restored afterwards."""
    with matplotlib.style.context(["default", STYLE]):
        yield


class DataFigure(Figure):
    """Figure with the table that it shows. It is not managed by pyplot, so it need not be closed.

    The same table gives the same bytes of PNG, SVG and PDF, with the same versions of matplotlib and its libraries. SVG
    keeps text as text. In PNG and PDF, matplotlib warns of letters that its font, DejaVu Sans, lacks.

    Attributes:
        table: the drawn values, one row per mark.
    """

    def __init__(self, table: pd.DataFrame, width: float, height: float) -> None:
        super().__init__(figsize=(width, height))
        self.set_layout_engine("none")
        FigureCanvasAgg(self)
        self.table = table

    def axes_at(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes at a position in inches from the figure's left and top."""
        across, down = self.get_size_inches()
        return self.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))

    def text_at(self, left: float, top: float, text: str, **settings: Any) -> None:
        """Add text with its upper left corner at a position in inches from the figure's left and top."""
        across, down = self.get_size_inches()
        self.text(left / across, 1 - top / down, text, **{"ha": "left", "va": "top", **settings})

    def legend_at(self, left: float, top: float, handles: Sequence[Artist], handle: float) -> None:
        """Add a legend with its upper left corner at a position in inches; handles are `handle` letters wide."""
        across, down = self.get_size_inches()
        if handles:
            self.legend(
                handles=list(handles),
                loc="upper left",
                bbox_to_anchor=(left / across, 1 - top / down),
                ncols=_legend_columns(handles, across - left, handle),
                frameon=False,
                borderpad=0,
                borderaxespad=0,
                labelspacing=0.4,
                handlelength=handle,
                handletextpad=_HANDLE_PAD,
                columnspacing=_COLUMN_GAP,
            )

    def savefig(self, fname: Any, **kwargs: Any) -> None:
        """Save the figure as `Figure.savefig` does, with this project's style and without a date."""
        suffix = Path(fname).suffix[1:] if isinstance(fname, str | PathLike) else ""
        form = str(kwargs.get("format") or suffix or "png").lower()
        with styled(), warnings.catch_warnings():
            if form == "svg":
                warnings.filterwarnings("ignore", message=_LACKING, category=UserWarning)
            super().savefig(fname, **{"metadata": _UNDATED.get(form), **kwargs})

    def _repr_png_(self) -> bytes:
        # Notebooks by themselves show only figures of pyplot.
        file = io.BytesIO()
        self.savefig(file, dpi=_SCREEN_DPI)
        return file.getvalue()


def width_of(text: str, size: float = BASE) -> float:
    """Width of a text at `size` points, in inches."""
    with warnings.catch_warnings():
        # The width is also needed for text with letters that the font lacks.
        warnings.filterwarnings("ignore", message=_LACKING, category=UserWarning)
        font = FontProperties(family="DejaVu Sans", size=size)
        width, _, _ = text_to_path.get_text_width_height_descent(text, font, False)
    return float(width) / 72


def shortened(text: str, width: float, size: float = BASE) -> str:
    """Put a text on one line, cut with an ellipsis if it is wider than `width` inches at `size` points."""
    line = " ".join(text.split())
    kept = line[:200]
    while kept and width_of(kept if kept == line else f"{kept}…", size) > width:
        kept = kept[:-1]
    return line if kept == line else f"{kept}…"


def legend_height(handles: Sequence[Artist], width: float, handle: float) -> float:
    """Height of a legend of `DataFigure.legend_at` in this width, in inches."""
    return -(-len(handles) // _legend_columns(handles, width, handle)) * _LINE if handles else 0.0


def _legend_columns(handles: Sequence[Artist], width: float, handle: float) -> int:
    """Largest number of columns that fit; a legend fills one column after the other."""
    around = (handle + _HANDLE_PAD + _COLUMN_GAP) * SMALL / 72
    widths = [around + width_of(str(each.get_label()), SMALL) for each in handles]
    fitting = (n for n in range(len(handles), 1, -1) if sum(max(each) for each in np.array_split(widths, n)) <= width)
    return next(fitting, 1)
