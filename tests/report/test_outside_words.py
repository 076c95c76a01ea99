"""Words and roles of a condition from an installed package, in sentences, tables and figures."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from plug_ins import install
from summaries import made_summary

from fv.evaluation.conditions import condition_providers
from fv.evaluation.words import belongs_to_vector, compared_conditions, costed_conditions, labels, lead_contrasts
from fv.figures.contrasts import contrast_forest
from fv.report.closing_notes import baselines_that_win

CONTROL = '''
"""The vector backwards."""
from dataclasses import dataclass
from typing import ClassVar

from fv.evaluation.provider import ConditionProvider, Words


@dataclass
class Backwards(ConditionProvider):
    """The vector with its entries in reverse order."""

    words: ClassVar = {
        "backwards": Words(
            "the vector backwards", "Reading the vector backwards", column="backwards",
            column_at=55, leads_at=15, in_cost_figure=True,
        )
    }

    def of_vector(self, at):
        yield at.control("backwards", at.values.flip(0))
'''


@pytest.fixture
def _outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    install(
        monkeypatch,
        tmp_path,
        "outside_words",
        {"backwards": CONTROL},
        "function_vectors.conditions",
        "backwards = outside_words.backwards:Backwards",
    )
    condition_providers.cache_clear()
    yield
    condition_providers.cache_clear()


@pytest.mark.usefixtures("_outside")
def test_a_condition_from_outside_has_its_place_among_the_built_in_ones() -> None:
    assert lead_contrasts() == [
        "corrupted_prompts",
        "backwards",
        "layer_mean_added",
        "layer_mean_replaced",
        "few_shot",
    ]
    assert [*compared_conditions().values()] == [
        "few-shot prompt",
        "corrupted prompt",
        "corrupted + vector",
        "mean replaced",
        "difference of means",
        "backwards",
        "best random vector",
    ]
    assert "backwards" in costed_conditions()
    assert belongs_to_vector("backwards")
    assert not belongs_to_vector("layer_mean_added")


@pytest.mark.usefixtures("_outside")
def test_it_is_told_and_drawn_by_its_own_words() -> None:
    minus = {"fv": "q", "eval_qid": "q", "subset": "all", "condition": "fv", "minus": "backwards", "n_draws": 1}
    chosen = [{"fv": "q", "eval_qid": "q", "fv_kind": "qid", "fv_source": "q", "k": 5}]
    summary = made_summary(
        chosen=chosen, contrasts=[{**minus, "metrics": {"logprob": {"mean": -1.0, "ci_high": -0.5}}}]
    )
    (line,) = baselines_that_win(summary)
    assert line.startswith("Reading the vector backwards gives a higher log p than the vector in q")
    row = {**minus, "metric": "logprob", "mean": -1.0, "ci_low": -1.5, "ci_high": -0.5, "n": 14}
    figure = contrast_forest(pd.DataFrame([row]), names=labels())
    assert "− the vector backwards" in [tick.get_text() for tick in figure.axes[0].get_yticklabels()]


def test_a_condition_without_words_is_shown_by_its_name() -> None:
    assert labels().get("nobody_named_it") is None
    assert belongs_to_vector("nobody_named_it")
