"""Admission of a step or an analysis to a run's folder: complete or due, locks, and the record, which is written last.

Spec sections 4 and 6.
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from fv.config import Config
from fv.models.language_model import LanguageModel
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
    """Where a step or an analysis writes.

    Attributes:
        title: what messages call it.
        paths: the run's.
        record: the file of its record; its other files are beside it.
        log: the file of its log; None where it opens one itself.
        alone: whether nobody else may be at work in the run meanwhile; else it locks its own folder only.
        on_all_pages: whether the pages of all tags show what it writes.
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
        """Remove its record, so that what is there is of no step, and the pages that show it."""
        self.record.unlink(missing_ok=True)
        if not self.paths.place:
            forget_pages(self.paths, self.on_all_pages)

    def finish(
        self, kind: type[Record], fields: Mapping[str, Any], outputs: Outputs, copy: str | None = None, **more: Any
    ) -> None:
        """Write its record, which says that all files are there.

        Args:
            kind: the class of the record.
            fields: what was known of it at the beginning.
            outputs: the files.
            copy: the name of a second file with the record, if any.
            more: what only the end knows.
        """
        done = {"status": "ok", "finished": now(), "outputs": outputs.hashes()}
        record = kind(**{**fields, **more, **done})
        if copy:
            write_record(self.folder / copy, record)
        write_record(self.record, record)

    def _content(self) -> list[bytes | None]:
        """The records that decide whether it is due, as bytes."""
        return [path.read_bytes() if path.exists() else None for path in (self.paths.stepd_meta, self.record)]


@contextmanager
def step(place: Place, due: Callable[[], T | None]) -> Iterator[T | None]:
    """Admit a step or an analysis to its run, and keep others out for as long as it writes there.

    Args:
        place: where it writes.
        due: says what is to be done; None where all of it is there. It refuses what cannot be done there.

    Yields:
        what is to be done; None where all of it is there, which the log says.

    Raises:
        ArtifactError: something in the run's folder is a link.
        FvError: as `due` does.
    """
    seen, found = place._content(), None
    is_known = place.alone and place.record.exists()
    if is_known:
        with run_lock(place.paths.root, shared=True):  # whoever finds all of it there keeps nobody out
            found = due()
            if found is None:
                _say_complete(place)
                yield None
                return
    own = nullcontext() if place.alone else locked(place.folder)
    logged = log_to_file(place.log) if place.log else nullcontext()
    with run_lock(place.paths.root, shared=not place.alone), own, logged:
        # Another command may have come first.
        if not is_known or place._content() != seen:
            found = due()
        if found is None:
            _say_complete(place)
        yield found


def _say_complete(place: Place) -> None:
    log.info("%s in %s is complete already.", place.title, place.folder)


def step_fields(config: Config, lm: LanguageModel, special: bool) -> dict[str, Any]:
    """The fields of a step's record that are known when it begins: settings, model, machine, versions.

    Args:
        config: the configuration.
        lm: the model.
        special: whether prompts have the tokenizer's special tokens, as the snapshot of trials records it.
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
    """Throw a run's artifacts, logs, records of workers and pages away."""
    forget_pages(paths, of_all_tags=True)
    for folder in (paths.artifacts, paths.logs, paths.stages):
        shutil.rmtree(folder, ignore_errors=True)


def forget_pages(paths: RunPaths, of_all_tags: bool = False) -> None:
    """Remove the page that shows results which are about to change: that of the tag, or those of all tags."""
    untagged = replace(paths, tag=None).report
    for folder in [untagged, *untagged.glob("*")] if of_all_tags else [paths.report]:
        (folder / PAGE).unlink(missing_ok=True)
        shutil.rmtree(folder / FIGURES, ignore_errors=True)
