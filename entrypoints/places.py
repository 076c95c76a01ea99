"""Places of a sweep's jobs: different jobs write to different places, and the same sweep finds its places again.

| swept settings | place |
| --- | --- |
| layer and alpha | cells of one Step6, gathered into one summary |
| other settings of Step6 only | cells of one Step6, with a summary per value (`fv.steps.gather.places_of`) |
| settings of StepE's vectors, and of analyses | a tag per value; StepD is shared |
| all others | a run per value |
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

from fv.config import Config, Screen
from fv.config.checks import LONGEST_NAME

PLACED = ("pipeline", "stepd", "stepe", "step6")
"""Commands that write into runs."""
NO_PLACE = ("run_id", "results_dir", "tag", "quiet", "overwrite", "report", "cluster", "plan", "out", "runs", "hydra")
"""Settings and groups of a run's folder, of its computation and of its page: they need no place of their own."""
OF_STEP6 = ("injection", "eval_scope", "evaluation")
OF_STEPE = (
    *("score.k", "score.key", "score.aie_qids", "score.aie_fv", "score.aie_leave_one_out"),
    *("injection.fv_path", "injection.quick_eval", "analysis"),
)
"""Settings of StepE, and settings that Step6 does not record, so that it cannot distinguish their outputs."""
_PLAIN = re.compile(r"[A-Za-z0-9._]+")


class Place(Enum):
    """The place that each value of a swept setting needs for itself."""

    none = "none"
    tag = "tag"
    run = "run"


def placed(
    jobs: Sequence[Sequence[str]], configs: Sequence[Config], swept: Collection[str] | None
) -> tuple[list[list[str]], list[Config]]:
    """Add a `run_id` or a `tag` to the overrides and configurations of the jobs that need one.

    Args:
        jobs: the overrides of each job.
        configs: the configuration of each job.
        swept: the swept keys; None to find them by comparing the jobs, if all jobs are known.

    Returns:
        the overrides and the configuration of each job.
    """
    words = words_of(jobs)
    together: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, config in enumerate(configs):
        together[config.results_dir, config.run_id].append(i)
    overrides, found = [list(job) for job in jobs], list(configs)
    for numbers in together.values():
        keys = varying([words[i] for i in numbers]) if swept is None else [*swept]
        needs = {key: _place_of(key, [configs[i] for i in numbers]) for key in keys}
        for i in numbers:
            for place, name in ((Place.run, "run_id"), (Place.tag, "tag")):
                own = [words[i][key] for key in keys if needs[key] is place and key in words[i]]
                if own:
                    given = getattr(found[i], name)
                    value = _named(given, own)
                    renamed: dict[str, Any] = {name: value}
                    found[i] = replace(found[i], **renamed)
                    overrides[i] = [word for word in overrides[i] if key_of(word) != name]
                    overrides[i].append(f"{name}='{value}'")
    return overrides, found


def key_of(word: str) -> str:
    """The setting or group of an override: `data.template` for `data/template=qa`."""
    return word.partition("=")[0].lstrip("+~").replace("/", ".")


def words_of(jobs: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """{key: override} of each job."""
    return [{key_of(word): word for word in job} for job in jobs]


def varying(jobs: Sequence[dict[str, str]]) -> list[str]:
    """The keys whose overrides differ between jobs, in the order of the command."""
    keys = dict.fromkeys(key for words in jobs for key in words)
    return [key for key in keys if len({words.get(key) for words in jobs}) > 1]


def _place_of(key: str, configs: Sequence[Config]) -> Place:
    def is_among(names: Collection[str]) -> bool:
        return any(key == name or key.startswith(f"{name}.") for name in names)

    # With these settings, scores decide StepD too, and the injection decides StepE too.
    ranks = any(config.score.adaptive or config.score.screen is not Screen.none for config in configs)
    quick = any(config.injection.quick_eval for config in configs)
    if is_among(NO_PLACE):
        return Place.none
    if is_among(OF_STEPE):
        return Place.run if ranks and key.startswith("score.") else Place.tag
    if is_among(OF_STEP6):
        return Place.tag if quick else Place.none
    return Place.run


def _named(before: str | None, words: Sequence[str]) -> str:
    """A name followed by a job's own overrides: `run-data.n_demos-2`."""
    own = "+".join(map(_label, words))
    start = f"{before}-" if before else ""
    named = f"{start}{own}"
    return named if len(named) <= LONGEST_NAME else f"{start}{_digest(own)}"


def _label(word: str) -> str:
    """An override as a part of a folder's name; a value with other characters is replaced by a digest."""
    value = word.partition("=")[2]
    return f"{key_of(word)}-{value if _PLAIN.fullmatch(value) else _digest(word)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
