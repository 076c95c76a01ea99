"""Admission of a step or an analysis to a run: it checks what is due, locks the folder, and writes the record last.

Spec sections 4 and 6.
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import torch

from fv.config import Config
from fv.config.group import Settings
from fv.files import JsonObject
from fv.models.language_model import LanguageModel
from fv.models.spec import ModelSpec
from fv.models.special_tokens import used_tokens
from fv.runs.locks import locked, run_lock
from fv.runs.logs import log_to_file
from fv.runs.machine import machine_settings, now, versions
from fv.runs.outputs import Outputs
from fv.runs.paths import FIGURES, PAGE, RunPaths
from fv.runs.records import Record, write_record

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """The place that a step or an analysis writes into.

    Attributes:
        title: its name in messages.
        paths: the paths of the run.
        record: the file of its record; its other files are in the same folder.
        log: the file of its log; None if it opens its log itself.
        alone: True if it locks the whole run; else it locks its own folder only.
        on_all_pages: True if the pages of all tags show its results.
    """

    title: str
    paths: RunPaths
    record: Path
    log: Path | None
    alone: bool = False
    on_all_pages: bool = False

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return self.record.parent

    def begin(self) -> None:
        """Remove its record, so that its files count as unfinished, and the pages that show its results."""
        self.record.unlink(missing_ok=True)
        if not self.paths.place:
            forget_pages(self.paths, self.on_all_pages)

    def finish(
        self, kind: type[Record], fields: Mapping[str, Any], outputs: Outputs, copy: str | None = None, **more: Any
    ) -> None:
        """Write its record, which marks it as finished.

        Args:
            kind: the class of the record.
            fields: the fields that were known at the beginning.
            outputs: the written files.
            copy: the name of a second file with the record, if any.
            more: the fields that are known only at the end.
        """
        done = {"status": "ok", "finished": now(), "outputs": outputs.hashes()}
        record = kind(**{**fields, **more, **done})
        if copy:
            write_record(self.folder / copy, record)
        write_record(self.record, record)

    def _content(self) -> list[bytes | None]:
        """The bytes of StepD's record and of its own, which decide together if it is due."""
        return [path.read_bytes() if path.exists() else None for path in (self.paths.stepd_meta, self.record)]


class StepFields(TypedDict):
    """Fields of a `StepRecord` that are known when the step begins."""

    canonical: bool
    seed: int
    config: Config
    model: dict[str, str]
    selfcheck: JsonObject
    spec: ModelSpec
    compute: Settings
    versions: dict[str, str]
    started: str
    special_tokens: list[str]


@contextmanager
def step(place: Place, due: Callable[[], T | None]) -> Iterator[T | None]:
    """Admit a step or an analysis to its run, and keep others out while it writes.

    Args:
        place: the place that it writes into.
        due: finds the work that is left; None if there is none. It raises an error if the work is not possible.

    Yields:
        the work that is left; None if there is none, which is logged.

    Raises:
        ArtifactError: the run's folder holds a link.
        FvError: as `due` does.
    """
    seen, found = place._content(), None
    is_known = place.alone and place.record.exists()
    if is_known:
        with run_lock(place.paths.root, shared=True):  # a complete step needs no lock of its own
            found = due()
            if found is None:
                _say_complete(place)
                yield None
                return
    own = nullcontext() if place.alone else locked(place.folder)
    logged = log_to_file(place.log) if place.log else nullcontext()
    with run_lock(place.paths.root, shared=not place.alone), own, logged:
        # Another command may have done the work while this one waited for the lock.
        if not is_known or place._content() != seen:
            found = due()
        if found is None:
            _say_complete(place)
        yield found


def _say_complete(place: Place) -> None:
    log.info("%s in %s is complete already.", place.title, place.folder)


def step_fields(config: Config, lm: LanguageModel, special: bool) -> StepFields:
    """Make the fields of a step's record that are known when it begins: settings, model, machine, versions.

    Args:
        config: the configuration.
        lm: the model.
        special: True if prompts have the tokenizer's special tokens, as recorded in the snapshot of trials.
    """
    return {
        "canonical": config.canonical,
        "seed": config.seed,
        "config": config,
        "model": lm.fingerprint,
        "selfcheck": lm.selfcheck,
        "spec": lm.spec,
        "compute": {
            **machine_settings(config.compute, config.model),
            "spec": lm.spec.name,
            "cpu": torch.backends.cpu.get_cpu_capability(),
        },
        "versions": versions(),
        "started": now(),
        "special_tokens": used_tokens(lm.tokenizer, special),
    }


def clear_run(paths: RunPaths) -> None:
    """Delete a run's artifacts, logs, records of workers, and pages."""
    forget_pages(paths, of_all_tags=True)
    for folder in (paths.artifacts, paths.logs, paths.stages):
        shutil.rmtree(folder, ignore_errors=True)


def forget_pages(paths: RunPaths, of_all_tags: bool = False) -> None:
    """Delete the tag's page, or the pages of all tags, because the results that they show are about to change."""
    untagged = replace(paths, tag=None).report
    for folder in [untagged, *untagged.glob("*")] if of_all_tags else [paths.report]:
        (folder / PAGE).unlink(missing_ok=True)
        shutil.rmtree(folder / FIGURES, ignore_errors=True)
