"""Paths of a run's files, and refusals of names and links that lead out of the run's folder (spec sections 4, 7)."""

import os
import stat
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from fv.config import Config
from fv.errors import ArtifactError
from fv.files import safe_name

SNAPSHOT = "sampled_trials.json"
FV_META = "fv_global_resid_meta.json"
AIE_META = "fv_meta.json"
STEP6_META = "eval_meta.json"
TOP_HEADS = "top_heads.json"
JOBS = "cells"
"""Folder of the jobs of a sweep, in Step6's folder."""
PAGE, FIGURES = "index.html", "figures"
"""Names of a run's page and of its folder of figures."""


@dataclass(frozen=True)
class RunPaths:
    """The paths of one run.

    Attributes:
        root: the run's folder, `results_fv/relation/<run_id>`.
        tag: the tag that StepE and Step6 write under, if any.
        place: a folder in Step6's folder, for a job of a sweep or for a sweep over more than layer and alpha; else
            empty.
    """

    root: Path
    tag: str | None = None
    place: str = ""

    @classmethod
    def of(cls, config: Config) -> "RunPaths":
        return cls(Path(config.results_dir) / "relation" / config.run_id, config.tag)

    @property
    def is_job(self) -> bool:
        """True if these are the paths of one job of a sweep."""
        return self.place.partition("/")[0] == JOBS

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def snapshot(self) -> Path:
        return self.artifacts / SNAPSHOT

    @property
    def stepd_meta(self) -> Path:
        return self.artifacts / "stepD_meta.json"

    @property
    def mean_acts(self) -> Path:
        return self.artifacts / "stepD_mean_acts"

    @property
    def units(self) -> Path:
        """The folder of finished units of all steps (`fv.work`)."""
        return self.artifacts / "units"

    @property
    def cluster(self) -> Path:
        """The folder of files that a cluster's workers and the command exchange."""
        return self.root / "cluster"

    @property
    def stages(self) -> Path:
        """The folder of records of workers' tasks (`fv.cluster.base.records`), with one folder per stage."""
        return self.cluster / "stages"

    def qid_mean(self, qid: str) -> Path:
        return self.mean_acts / f"qid_{safe_name(qid)}_clean_mean.pt"

    def qid_other_means(self, qid: str) -> Path:
        """The file of a relation's other means, for Step6's controls and baselines."""
        return self.artifacts / "stepD_other_means" / f"qid_{safe_name(qid)}.pt"

    def qid_prompt_outputs(self, qid: str) -> Path:
        """The file of head outputs of each fit prompt, from which refits of the vector are made."""
        return self.artifacts / "stepD_prompt_outputs" / f"qid_{safe_name(qid)}.pt"

    @property
    def stepe(self) -> Path:
        """The folder that StepE writes into: `artifacts/`, or `artifacts/<tag>/`."""
        return self.artifacts / self.tag if self.tag else self.artifacts

    @property
    def stepe_to_read(self) -> Path:
        """The folder of the vectors for Step6: the tag's if StepE ran under the tag, else the untagged one."""
        return self.stepe if (self.stepe / FV_META).exists() else self.artifacts

    @property
    def step6(self) -> Path:
        base = self.artifacts / "step6"
        return (base / self.tag if self.tag else base) / self.place

    @property
    def report(self) -> Path:
        """The folder of the page; each tag has its own."""
        return self.root / "report" / (self.tag or "")

    @property
    def analyses(self) -> Path:
        """The folder that holds one folder per analysis."""
        return self.artifacts / "analyses"

    def analysis(self, name: str) -> Path:
        """The folder that an analysis writes into, under the tag if there is one."""
        base = self.analyses / name
        return (base / self.tag if self.tag else base) / self.place


def paths_of_step6(folder: Path, tag: str | None) -> RunPaths:
    """The paths of the run whose Step6 wrote into a folder, with the tag and with the place inside Step6's folder.

    Raises:
        ArtifactError: the folder is not inside Step6's folder of that tag.
    """
    paths = RunPaths(run_folder(folder), tag)
    if paths.step6 not in (folder, *folder.parents):
        raise ArtifactError(f"{folder} says that it is of the tag {tag!r}, whose results are in {paths.step6}.")
    place = folder.relative_to(paths.step6).as_posix()
    return replace(paths, place="" if place == "." else place)


def run_folder(step6: Path) -> Path:
    """The folder of the run that a Step6 folder belongs to; the Step6 folder itself if it is in no run."""
    return next((parent.parent for parent in step6.parents if parent.name == "artifacts"), step6)


def refuse_one_file(folder: Path, names: Iterable[str]) -> None:
    """Refuse names that differ in case only, if the file system of `folder` would keep them in one file.

    Raises:
        ArtifactError: there are such names; the message lists them.
    """
    of_form: dict[str, list[str]] = defaultdict(list)
    for name in names:
        of_form[safe_name(name).lower()].append(name)
    twins = [several for several in of_form.values() if len(several) > 1]
    if twins and ignores_case(folder):
        named = "; ".join(" and ".join(several) for several in twins)
        raise ArtifactError(
            f"Relations differ in case only ({named}), and the file system of {folder} would keep them in one file. "
            "Rename one, leave it out (data.qids), or choose a results_dir on a file system that tells case apart."
        )


def ignores_case(folder: Path) -> bool:
    """True if the file system of `folder`, which must exist, ignores the case of names."""
    with tempfile.NamedTemporaryFile(prefix=".case", dir=folder) as file:
        path = Path(file.name)
        return path.with_name(path.name.upper()).exists()


def refuse_links(root: Path) -> None:
    """Refuse a run's folder that holds a link, or anything else that is neither a file nor a folder.

    Through a link, a step could read, overwrite or delete files outside the run. The run's folder itself may be a
    link, because its user made it.

    Raises:
        ArtifactError: there is one; the message names the first.
    """
    for folder, folders, files in os.walk(root):
        for path in sorted(Path(folder, name) for name in (*folders, *files)):
            try:
                mode = path.lstat().st_mode
                told = f"is a link to {path.readlink()}" if stat.S_ISLNK(mode) else "is neither a file nor a folder"
            except FileNotFoundError:  # another process has just moved it to its place
                continue
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ArtifactError(
                    f"{path} {told}, and nothing in a run's folder may lead out of it. Remove it, or put the file or "
                    "folder itself there."
                )


def is_inside(name: str) -> bool:
    """True if a recorded name of a file is relative to its folder and stays inside it."""
    parts = name.split("/")
    return "\0" not in name and not any(part in ("", ".", "..") for part in parts)
