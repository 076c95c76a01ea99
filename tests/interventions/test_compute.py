"""Compute: one object says how a model is run, and its values reach the engine."""

import dataclasses

import pytest
from families import tiny

import fv
from fv.interventions.expanded_batch import ExpandedBatchEngine
from fv.interventions.naive import NaiveEngine
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.models.language_model import LanguageModel


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        ("naive", NaiveEngine),
        ("expanded", ExpandedBatchEngine),
        ("shared_prefix", SharedPrefixEngine),
        ("auto", SharedPrefixEngine),
    ],
)
def test_the_named_engine_runs_with_the_requested_rows(tiny_llama: LanguageModel, engine: str, kind: type) -> None:
    made = fv.Compute(engine=engine, max_rows=96).engine_for(tiny_llama)
    assert type(made.engine) is kind and made.max_rows == 96


def test_an_engine_that_the_family_does_not_allow_is_refused_under_its_argument() -> None:
    with pytest.raises(fv.FvError, match=r"^engine=shared_prefix is not exact for models of the spec"):
        fv.Compute(engine="shared_prefix").engine_for(tiny("bloom"))


def test_settings_cannot_change_after_they_were_checked() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        fv.Compute().max_rows = 0  # type: ignore[misc]
