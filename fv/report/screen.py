"""Screen of a run, in sentences and as a table."""

import pandas as pd

from fv.heads.screen_report import ScreenReport
from fv.runs.run import Run
from fv.runs.screen_files import REPORT


def screen_report_of(run: Run) -> ScreenReport | None:
    """`screen_report.json` of a run; None if all heads were measured."""
    return run.record(REPORT.removesuffix(".json")) if REPORT in run.files else None


def screen_sentences(report: ScreenReport | None) -> str:
    """Sentences on the numbers of verified heads, of rounds, and of random heads in a top k; empty without a screen."""
    if report is None:
        return ""
    counts, (*wider, last) = report["n_verified"], report["rounds"]
    method = report["settings"]["method"]
    said = f"Screened by {method}: effects of {counts['all']} of {report['n_heads']} heads were measured"
    if wider:
        said += f": the {last['verify']} best by estimate, after the {wider[0]['verify']} best had missed some"
    chance, k = counts["random"], report["settings"]["k"]
    if not chance:
        return f"{said}, none of them drawn at random."
    found = len({(one["layer"], one["head"]) for one in last["entered"]})
    heads = "is" if found == 1 else "are"
    return f"{said}. Of the {chance} drawn at random {found or 'none'} {heads if found else 'is'} in a top {k}."


def screen_table(report: ScreenReport) -> pd.DataFrame:
    """Agreement of estimates and effects, and a bound on the share of missed heads, one row per ranking."""
    rankings = {"AIE": report["global"], **report["per_qid"]}
    return pd.DataFrame([{"ranking": name, **own} for name, own in rankings.items()])
