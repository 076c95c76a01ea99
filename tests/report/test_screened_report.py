"""What a screened run says: that it is one, how many heads were measured, and how far the choice can be trusted."""

from typing import cast

import numpy as np
import pytest
from page_reader import Page
from tiny_runs import GRID, TinyRunIn

from fv.heads.screen_report import ScreenReport
from fv.report.page import write_page
from fv.report.pictures import pictures_of
from fv.report.results import RunResults
from fv.report.screen import screen_sentences, screen_table
from fv.report.terminal import print_heads, print_report
from fv.runs.paths import RunPaths
from fv.runs.run import Run, open_run
from fv.steps.pipeline import run_pipeline


@pytest.fixture(scope="module")
def run(tiny_run_in: TinyRunIn, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A screened run of three relations, the grid alone."""
    config = tiny_run_in(tmp_path_factory.mktemp("results"))(
        GRID,
        {
            "data.n_trials_per_q": 4,
            "score.screen": "gradient",
            "score.k": 1,
            "score.verify": 1,
            "score.verify_random": 1,
            "injection.fv": "all_qids",
            "eval_scope.mode": "all_qids",
            "stats.n_resamples": 100,
        },
    )
    run_pipeline(config)
    return open_run(RunPaths.of(config).root)


def report(n_random: int, *rounds: tuple[int, int, int]) -> ScreenReport:
    """A report of rounds, each with how many heads by estimate, how many in all, and random ones in a top k."""
    entered = [[{"q_id": None, "layer": 0, "head": head} for head in range(n)] * 2 for *_, n in rounds]
    of_rounds = [{"verify": v, "n_verified": n, "entered": e} for (v, n, _), e in zip(rounds, entered, strict=True)]
    settings = {"method": "gradient", "k": 10}
    counts = {"all": rounds[-1][1], "random": n_random}
    read = {"settings": settings, "rounds": of_rounds, "n_heads": 270, "n_verified": counts}
    return cast(ScreenReport, read)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, ""),
        (
            report(32, (40, 90, 0)),
            "Screened by gradient: effects of 90 of 270 heads were measured. Of the 32 drawn at random none is in a "
            "top 10.",
        ),
        (
            report(30, (40, 90, 1), (80, 130, 2)),
            "Screened by gradient: effects of 130 of 270 heads were measured: the 80 best by estimate, after the "
            "40 best had missed some. Of the 30 drawn at random 2 are in a top 10.",
        ),
        (
            report(0, (40, 60, 0)),
            "Screened by gradient: effects of 60 of 270 heads were measured, none of them drawn at random.",
        ),
    ],
)
def test_a_screen_is_told_in_a_sentence_or_two(given: ScreenReport | None, said: str) -> None:
    assert screen_sentences(given) == said


def test_the_terminal_says_how_many_heads_were_measured(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    print_heads(run.paths.root)
    print_report(run.paths.step6)
    n_verified = run.record("screen_report")["n_verified"]["all"]
    words = " ".join(capsys.readouterr().out.split())
    assert words.count(f"Screened by gradient: effects of {n_verified} of 12 heads were measured") == 2


def test_the_page_says_so_and_shows_how_far_the_choice_can_be_trusted(run: Run) -> None:
    html = write_page(run).read_text(encoding="utf-8")
    record = run.record("screen_report")
    assert f"{record['n_verified']['all']} of 12 attention heads were each tried" in html
    assert "every attention head was tried" not in html
    assert "Screened by gradient" in html and "does not say that there are none" in html
    shown = {float(exact) for row in Page(html).cells["screen"] for _, exact in row if exact is not None}
    numbers = screen_table(record).select_dtypes("number").to_numpy().ravel()
    assert shown == {number for number in numbers.tolist() if not np.isnan(number)}


def test_the_heat_map_hatches_what_was_not_measured(run: Run) -> None:
    (heads,) = (picture for picture in pictures_of(RunResults(run)) if picture.name == "heads")
    assert "Hatched" in heads.caption
    verified = {(layer, head) for layer, head, _ in run.record("screen_report")["verified"]}
    for axes in heads.figure.axes[:4]:
        hatched = np.ma.getmaskarray(np.ma.asarray(axes.images[0].get_array()))  # (n_heads, n_layers)
        assert hatched.shape == (4, 3)
        assert {(layer, head) for head, layer in zip(*np.nonzero(~hatched), strict=True)} == verified
    assert 0 < len(verified) < 12
