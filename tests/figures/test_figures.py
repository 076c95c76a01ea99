"""Figures show the numbers of their tables, all of them, with units and n, and are the same bytes every time."""

import re
import subprocess
import sys
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from commands import ROOT
from figure_samples import FIGURES, OF_NAME, VALUE, cells, drawn, head_scores, texts, words
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection, PatchCollection, PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from tiny_runs import TinyRun

from fv.figures.effect_by_layer import effect_by_layer
from fv.figures.heads import head_heatmap
from fv.files import read_json
from fv.runs.paths import RunPaths
from fv.steps.pipeline import run_pipeline


def marks(figure: Figure) -> tuple[int, int, int]:
    """How many dots, dashes and frames there are on all panels."""
    panels = [axes for axes in figure.axes if axes.images]
    dots = [each for axes in panels for each in axes.collections if isinstance(each, PathCollection)]
    frames = [each for axes in panels for each in axes.collections if isinstance(each, PatchCollection)]
    above, below = (sum(len(np.asarray(each.get_offsets())) for each in dots[side::2]) for side in (0, 1))
    return above, below, sum(len(each.get_paths()) for each in frames)


def lines_of(figure: Figure) -> dict[tuple[float, ...], tuple[float, ...]]:
    """{x: y} of each line with markers."""
    found = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", "", None)]
    return {tuple(np.asarray(line.get_xdata(), float)): tuple(np.asarray(line.get_ydata(), float)) for line in found}


UNIT = re.compile(r"\((nats|fraction|probability|no unit|ρ)\)")
every_figure = pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES.keys())


@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_there_is_a_mark_for_each_head_whose_interval_excludes_zero_and_for_each_chosen_one(
    n_layers: int, n_heads: int, seed: int
) -> None:
    scores = head_scores(n_layers, n_heads, seed) if n_layers * n_heads > 1 else head_scores(1, 2, seed)
    above, below = (scores["ci_low"] > 0).sum(), (scores["ci_high"] < 0).sum()
    figure = head_heatmap(scores)
    assert marks(figure) == (above, below, scores["chosen"].sum())
    assert figure.table["excludes_zero"].sum() == above + below
    said = words(figure)
    assert ("interval > 0" in said, "interval < 0" in said) == (above > 0, below > 0)


def test_dots_stand_on_heads_above_zero_and_dashes_on_heads_below() -> None:
    scores = head_scores()
    dots, dashes = (each for each in head_heatmap(scores).axes[0].collections if isinstance(each, PathCollection))
    for found, wanted in ((dots, scores["ci_low"] > 0), (dashes, scores["ci_high"] < 0)):
        assert wanted.any()
        assert np.asarray(found.get_offsets()).tolist() == scores.loc[wanted, ["layer", "head"]].values.tolist()


def test_cells_have_the_tables_values_on_one_scale_that_is_symmetric_about_zero() -> None:
    scores = pd.concat([head_scores(q_id="small"), head_scores(q_id="large", seed=1).assign(**{VALUE: -3.0})])
    figure = head_heatmap(scores)
    *panels, bar = figure.axes
    for axes, (_, own) in zip(panels, scores.groupby("q_id", sort=False), strict=True):
        image = axes.images[0]
        assert image.get_clim() == (-3.0, 3.0)
        wanted = own.pivot(index="head", columns="layer", values=VALUE).to_numpy()
        np.testing.assert_array_equal(np.asarray(image.get_array()), wanted)
    assert bar.get_ylim() == (-3.0, 3.0)
    assert np.allclose(panels[0].images[0].cmap(0.5)[:3], 1.0, atol=0.05)


def test_a_given_limit_is_the_scales_end() -> None:
    assert head_heatmap(head_scores(), limit=0.5).axes[0].images[0].get_clim() == (-0.5, 0.5)
    with pytest.raises(ValueError, match="above zero"):
        head_heatmap(head_scores(), limit=-1.0)


@every_figure
def test_every_axis_says_what_it_is_and_its_unit(make: Any) -> None:
    figure = make()
    assert UNIT.search(words(figure))
    for axes in figure.axes:
        for axis, name in ((axes.xaxis, axes.get_xlabel()), (axes.yaxis, axes.get_ylabel())):
            shown = [label for tick in axis.get_major_ticks() for label in (tick.label1, tick.label2)]
            # Names say themselves what they are.
            numbers = [each for each in shown if each.get_visible() and re.fullmatch(r"[−\d.]+", each.get_text())]
            assert name or not numbers


@every_figure
def test_n_and_what_it_counts_are_said(make: Any) -> None:
    assert re.search(r"n = [\d–]+ (trials|relations|vectors|heads|draws)|k = \d+ heads", words(make()))


@every_figure
def test_letters_are_legible_in_one_column_and_stay_inside_it(make: Any) -> None:
    figure = make()
    assert figure.get_size_inches()[0] == pytest.approx(3.3)
    outer = figure.bbox
    for text in texts(figure):
        assert float(text.get_fontsize()) >= 6
        box = text.get_window_extent()
        if box.width and text.get_in_layout():
            assert outer.x0 <= box.x0 and box.x1 <= outer.x1 + 1 and outer.y0 <= box.y0 + 1 and box.y1 <= outer.y1 + 1


@pytest.mark.slow
@every_figure
@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_the_same_table_is_the_same_bytes_whatever_the_users_settings(make: Any, form: str) -> None:
    figure = make()
    first = drawn(figure, form)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "svg.hashsalt": None, "savefig.dpi": 50}):
        assert drawn(make(), form) == first
    assert drawn(figure, form) == first


def test_users_settings_are_as_they_were() -> None:
    before = dict(matplotlib.rcParams)
    drawn(head_heatmap(head_scores()))
    assert dict(matplotlib.rcParams) == before


def test_n_is_in_the_title_and_above_each_panel_where_it_differs() -> None:
    assert "antonym, n = 12 trials" in words(head_heatmap(head_scores(q_id="antonym")))
    assert "n = 8–12 trials" in words(head_heatmap(head_scores().assign(n_trials=[8, *[12] * 11])))
    assert "n = 4 relations" in words(head_heatmap(head_scores().drop(columns="n_trials").assign(n_qids=4)))
    assert "n = 20 trials" in words(effect_by_layer(cells()))
    average = head_scores(q_id="AIE").drop(columns="n_trials").assign(n_qids=4)
    said = words(head_heatmap(pd.concat([head_scores(q_id="antonym"), average])))
    assert "antonym, n = 12 trials" in said and "AIE, n = 4 relations" in said


def test_heads_that_were_not_measured_are_hatched_and_never_marked() -> None:
    scores = head_scores(4, 3).assign(ci_low=1.0, ci_high=2.0, measured=True)
    scores.loc[scores["layer"] == 2, "measured"] = False
    scores.loc[(scores["layer"] == 3) & (scores["head"] == 0), VALUE] = np.nan
    figure = head_heatmap(scores[scores["layer"] > 0], shape=(5, 3))
    shown = np.ma.getmaskarray(np.ma.asarray(figure.axes[0].images[0].get_array()))
    assert shown.T.tolist() == [[True] * 3, [False] * 3, [True] * 3, [True, False, False], [True] * 3]
    assert figure.axes[0].patch.get_hatch() and "not measured" in words(figure)
    assert marks(figure)[0] == 5
    assert "not measured" not in words(head_heatmap(head_scores()))


def test_without_intervals_nothing_is_marked_and_nothing_said_of_them() -> None:
    figure = head_heatmap(head_scores().drop(columns=["ci_low", "ci_high"]))
    assert marks(figure)[:2] == (0, 0) and "interval" not in words(figure)
    figure = effect_by_layer(cells()[["layer", "alpha", "n_trials", VALUE]])
    assert "interval" not in words(figure) and len(lines_of(figure)) == 1


@pytest.mark.parametrize("shape", [(1, 12), (1, 1), (80, 64), (3, 200)])
def test_maps_of_any_shape_are_drawn_in_one_column(shape: tuple[int, int]) -> None:
    scores = head_scores(*shape) if shape != (1, 1) else head_scores(1, 2).head(1)
    figure = head_heatmap(scores)
    width, height = figure.get_size_inches()
    assert width == pytest.approx(3.3) and height < 5
    assert np.asarray(figure.axes[0].images[0].get_array()).shape == shape[::-1]
    assert drawn(figure)


@pytest.mark.parametrize("n", [2, 3, 31])
def test_every_relation_has_its_panel_and_lower_and_left_panels_name_the_axes(n: int) -> None:
    names = [f"relation_{i}" for i in range(n)]
    figure = head_heatmap(pd.concat([head_scores(q_id=name) for name in names]))
    panels = figure.axes[:-1]
    assert [axes.get_title() for axes in panels] == names
    for axes in panels:
        box = axes.get_position()
        others = [each.get_position() for each in panels if each is not axes]
        lowest = not any(abs(each.x0 - box.x0) < 1e-9 and each.y0 < box.y0 for each in others)
        first = not any(abs(each.y0 - box.y0) < 1e-9 and each.x0 < box.x0 for each in others)
        assert (bool(axes.get_xlabel()), bool(axes.get_ylabel())) == (lowest, first)
        assert not any(box.overlaps(each) for each in others)


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("make", OF_NAME.values(), ids=OF_NAME.keys())
@pytest.mark.parametrize("name", ["$a_1$ & <b>", "관계", "a" * 300, "two\nlines"])
def test_names_are_shown_as_they_are_or_cut(make: Any, name: str) -> None:
    svg = drawn(make(name), "svg").decode()
    if len(name) < 300:
        shown = " ".join(name.split())
        assert shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in svg
    else:
        assert "aaa…" in svg and "a" * 100 not in svg


def test_lines_are_the_tables_rows_and_bands_its_intervals() -> None:
    rows = cells(alphas=(0.5, 1.0, 4.0)).sample(frac=1, random_state=0)
    figure = effect_by_layer(rows)
    lines = [line for line in figure.axes[0].lines if line.get_marker() != "None"]
    looks = {(line.get_linestyle(), line.get_marker(), line.get_color()) for line in lines}
    assert len(looks) == len(lines) == 3
    bands = [each for each in figure.axes[0].collections if isinstance(each, PolyCollection)]
    for line, band, (alpha, own) in zip(lines, bands, rows.groupby("alpha"), strict=True):
        own = own.sort_values("layer")
        assert (
            np.asarray(line.get_xdata()).tolist() == own["layer"].tolist()
            and np.asarray(line.get_ydata()).tolist() == own[VALUE].tolist()
        )
        heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
        assert (heights.min(), heights.max()) == (own[f"{VALUE}_ci_low"].min(), own[f"{VALUE}_ci_high"].max())
        assert f"α = {alpha:g}" in words(figure)


def test_alphas_differ_in_grey() -> None:
    rows = cells(alphas=(0.25, 0.5, 1.0, 2.0, 4.0))
    lines = [line for line in effect_by_layer(rows).axes[0].lines if line.get_marker() != "None"]
    lightness = [float(np.dot(matplotlib.colors.to_rgb(line.get_color()), [0.299, 0.587, 0.114])) for line in lines]
    assert lightness == sorted(lightness) and np.diff(lightness).min() > 0.05 and max(lightness) < 0.75


def test_the_chosen_cell_has_the_only_ring() -> None:
    rows = cells()
    rings = [each for each in effect_by_layer(rows).axes[0].collections if isinstance(each, PathCollection)]
    (place,) = np.concatenate([np.asarray(each.get_offsets()) for each in rings]).tolist()
    assert place == rows.loc[rows["chosen"], ["layer", VALUE]].values.tolist()[0]
    assert "chosen cell" in words(effect_by_layer(rows))
    assert "chosen cell" not in words(effect_by_layer(rows.drop(columns="chosen")))


def test_baselines_are_lines_with_bands_and_their_own_n() -> None:
    table = pd.DataFrame(
        {"condition": ["few_shot", "random_vector"], "metric": "delta_logprob", "mean": [4.0, 1.0], "n": [14, 20]}
    ).assign(ci_low=[3.0, 0.5], ci_high=[5.0, 1.5])
    for baselines in (table, {"few_shot": (4.0, 3.0, 5.0), "random_vector": (1.0, 0.5, 1.5)}):
        figure = effect_by_layer(cells(), baselines=baselines)
        levels = {np.asarray(line.get_ydata())[0] for line in figure.axes[0].lines if line.get_marker() == "None"}
        assert levels == {4.0, 1.0, 0.0}
        patches = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
        bands = {(patch.get_y(), patch.get_y() + patch.get_height()) for patch in patches}
        assert bands == {(3.0, 5.0), (0.5, 1.5)}
        kept = figure.table[figure.table["kind"] == "baseline"]
        assert kept[["condition", "value"]].values.tolist() == [["few_shot", 4.0], ["random_vector", 1.0]]
        assert "random vector" in words(figure)
    assert "few-shot (n = 14)" in words(effect_by_layer(cells(), baselines=table))
    assert "random vector (n" not in words(effect_by_layer(cells(), baselines=table))
    with pytest.raises(ValueError, match="few_shot is neither a value nor"):
        effect_by_layer(cells(), baselines={"few_shot": (1.0, 2.0)})


def test_points_of_one_layer_stand_apart_with_their_intervals() -> None:
    rows = cells(1, alphas=(1.0, 2.0, 3.0))
    figure = effect_by_layer(rows)
    assert (
        len({x for line in figure.axes[0].lines if line.get_marker() != "None" for x in np.asarray(line.get_xdata())})
        == 3
    )
    bars = [each for each in figure.axes[0].collections if isinstance(each, LineCollection)]
    assert sum(len(each.get_segments()) for each in bars) == 3
    (place,) = {tuple(figure.axes[0].get_xticks())}
    assert place == (0,)


def test_a_missing_value_is_a_gap() -> None:
    rows = cells(alphas=(1.0,))
    rows.loc[2, [VALUE, f"{VALUE}_ci_low", f"{VALUE}_ci_high"]] = np.nan
    ((_, effects),) = lines_of(effect_by_layer(rows)).items()
    assert np.isnan(effects).tolist() == [False, False, True, False, False]


WRONG: dict[str, tuple[Any, str]] = {
    "no head": (lambda: head_heatmap(head_scores().drop(columns="head")), "No column head.*layer, head and mean_delta"),
    "no value": (lambda: head_heatmap(head_scores()[["layer", "head"]]), f"No column {VALUE}.*given: layer, head"),
    "no n": (lambda: head_heatmap(head_scores().drop(columns="n_trials")), "No n: .*n_trials or n_qids"),
    "no rows": (lambda: head_heatmap(head_scores().head(0)), "No rows.*layer, head and mean_delta_logprob"),
    "nothing": (lambda: head_heatmap(pd.DataFrame()), "No column layer, head"),
    "unknown unit": (lambda: head_heatmap(head_scores().assign(x=1.0), "x"), "unit='…'.*mean_delta_logprob"),
    "a head twice": (lambda: head_heatmap(pd.concat([head_scores()] * 2)), "Two rows for layer 0, head 0"),
    "small shape": (lambda: head_heatmap(head_scores(), shape=(4, 2)), "too small: the table goes to layer 3, head 2"),
    "half a layer": (lambda: head_heatmap(head_scores(1).assign(layer=0.5)), "`layer` holds 0.5; it needs whole"),
    "no layer": (lambda: head_heatmap(head_scores().replace({"layer": {2: np.nan}})), "`layer` holds nan; it needs"),
    "infinite": (lambda: head_heatmap(head_scores().replace(head_scores()[VALUE][0], np.inf)), "infinite at layer 0"),
    "whose interval": (
        lambda: head_heatmap(head_scores().assign(mean_delta_p=0.1), "mean_delta_p"),
        "Is `ci_low` of mean_delta_p or of mean_delta_logprob",
    ),
    "other metric": (
        lambda: head_heatmap(head_scores().rename(columns={VALUE: "mean"}).assign(metric="m")),
        "No row has the metric mean_delta_logprob. There are: m",
    ),
    "no alpha": (lambda: effect_by_layer(cells().drop(columns="alpha")), "No column alpha.*alpha, layer and"),
    "no cells": (lambda: effect_by_layer(cells().head(0)), "No rows.*alpha, layer and mean_delta_logprob"),
    "two vectors": (
        lambda: effect_by_layer(pd.concat([cells(), cells().assign(fv="verb_past")])),
        "Two rows for alpha 1.0, layer 0: take the rows of one fv",
    ),
    "draws": (
        lambda: effect_by_layer(cells(), baselines=pd.DataFrame({"condition": "r", VALUE: [1.0, 2.0], "draw": [0, 1]})),
        "Two rows for condition r: take the rows of one draw",
    ),
}


@pytest.mark.parametrize(("make", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_table_that_cannot_be_drawn_is_refused_with_what_it_needs(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.slow
def test_a_runs_files_are_drawn_as_they_are(tiny_run: TinyRun) -> None:
    config = tiny_run(
        {
            "evaluation.held_out": True,
            "injection.fv": "all_qids",
            "eval_scope.mode": "all_qids",
            "analysis.cost.n_texts": 0,
            "stats.n_resamples": 100,
        }
    )
    step6 = run_pipeline(config)
    artifacts = RunPaths.of(config).artifacts
    for name in ("cie_scores", "cie_stats", "aie_scores", "aie_stats"):
        table = pd.read_csv(artifacts / f"{name}.csv")
        figure = head_heatmap(table)
        own = table[table["metric"] == VALUE] if "metric" in table else table
        keys = [key for key in ("q_id", "layer", "head") if key in table]
        assert figure.table["value"].tolist() == own.sort_values(keys)["mean" if "metric" in table else VALUE].tolist()
        if "ci_low" in table:
            assert figure.table["excludes_zero"].sum() == ((own["ci_low"] > 0) | (own["ci_high"] < 0)).sum()
    rows = pd.DataFrame(read_json(step6 / "eval_summary.json")["rows"])
    rows = rows[(rows["fv"] == "antonym") & (rows["eval_qid"] == "antonym")]
    held_out = pd.read_csv(step6 / "held_out.csv", keep_default_na=False, na_values={"mean": [""]})
    few_shot = held_out.query("eval_qid == 'antonym' and condition == 'few_shot' and subset == 'all'")
    figure = effect_by_layer(rows, baselines=few_shot)
    kept = figure.table.sort_values(["kind", "layer", "alpha"])
    assert kept.loc[kept["kind"] == "cell", "value"].tolist() == rows.sort_values(["layer", "alpha"])[VALUE].tolist()
    assert kept["ci_low"].notna().all() and "few-shot" in words(figure)


def test_without_matplotlib_one_line_says_what_to_install() -> None:
    code = "import sys; sys.modules['matplotlib'] = None; import fv.figures.heads"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: Figures need matplotlib: pip install 'function-vectors[figures]'."
    )


def test_no_figure_imports_pyplot_torch_or_anything_else_of_the_project() -> None:
    code = (
        "import importlib, pkgutil, sys, fv.figures\n"
        "for each in pkgutil.iter_modules(fv.figures.__path__): importlib.import_module(f'fv.figures.{each.name}')\n"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    modules = set(done.stdout.split())
    assert not {"matplotlib.pyplot", "torch", "hydra"} & modules
    own = {name for name in modules if name.split(".")[0] == "fv"}
    assert {"fv.figures.heads", "fv.figures.trials"} <= own
    assert all(name in ("fv", "fv.figures") or name.startswith("fv.figures.") for name in own)


def test_a_notebook_shows_a_figure_by_itself() -> None:
    shown = head_heatmap(head_scores())._repr_png_()
    assert shown.startswith(b"\x89PNG")
