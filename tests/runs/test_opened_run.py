"""What an opened run says of itself."""

import pytest
from tiny_runs import TinyRun

import fv
from fv.runs.paths import RunPaths
from fv.steps.pipeline import run_pipeline
from fv.steps.step6 import run_step6


@pytest.mark.slow
def test_the_settings_of_a_tag_are_those_that_it_was_made_with(tiny_run: TinyRun) -> None:
    quick = tiny_run.but({"stats.n_resamples": 100}, analysis=[])
    config = quick({"injection.layer": 0})
    run_pipeline(config)
    run_step6(quick({"injection.layer": [0, 1]}, tag="more"))
    root = RunPaths.of(config).root
    found = {tag: fv.open_run(root, tag=tag).config for tag in (None, "more")}
    assert {tag: (own.tag, own.injection.layer) for tag, own in found.items()} == {
        None: (None, [0]),
        "more": ("more", [0, 1]),
    }
