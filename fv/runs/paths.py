"""Places of the files of a run, and names in records and links in folders that lead elsewhere (spec sections 4, 7)."""

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
PAGE, FIGURES = "index.html", "figures"
"""A page of a run and its folder of figures."""


@dataclass(frozen=True)
class RunPaths:
    """The folders of one run.

    Attributes:
        root: `results_fv/relation/<run_id>`.
        tag: the tag StepE and Step6 write under, if any.
        place: of a sweep over more than layer and alpha, the part of Step6's folder that is meant; else empty.
    """

    root: Path
    tag: str | None = None
    place: str = ""

    @classmethod
    def of(cls, config: Config) -> "RunPaths":
        return cls(Path(config.results_dir) / "relation" / config.run_id, config.tag)

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
        """Finished pieces of all steps (`fv.work`)."""
        return self.artifacts / "units"

    @property
    def cluster(self) -> Path:
        """What the workers of a cluster are told and tell."""
        return self.root / "cluster"

    @property
    def stages(self) -> Path:
        """The records of what they did (`fv.cluster.base.records`), a folder a stage."""
        return self.cluster / "stages"

    def qid_mean(self, qid: str) -> Path:
        return self.mean_acts / f"qid_{safe_name(qid)}_clean_mean.pt"

    def qid_other_means(self, qid: str) -> Path:
        """What Step6's controls and baselines need beside the clean mean."""
        return self.artifacts / "stepD_other_means" / f"qid_{safe_name(qid)}.pt"

    def qid_prompt_outputs(self, qid: str) -> Path:
        """Head outputs of each fit prompt, of which refits of the vector are made."""
        return self.artifacts / "stepD_prompt_outputs" / f"qid_{safe_name(qid)}.pt"

    @property
    def stepe(self) -> Path:
        """Where StepE writes: `artifacts/`, or `artifacts/<tag>/`."""
        return self.artifacts / self.tag if self.tag else self.artifacts

    @property
    def stepe_to_read(self) -> Path:
        """Where Step6 finds vectors: under its own tag if StepE ran with it, else untagged."""
        return self.stepe if (self.stepe / FV_META).exists() else self.artifacts

    @property
    def step6(self) -> Path:
        base = self.artifacts / "step6"
        return (base / self.tag if self.tag else base) / self.place

    @property
    def report(self) -> Path:
        """The folder of the page, a tag's in one of its own."""
        return self.root / "report" / (self.tag or "")

    @property
    def analyses(self) -> Path:
        """Where every analysis has a folder of its name."""
        return self.artifacts / "analyses"

    def analysis(self, name: str) -> Path:
        """Where an analysis of what StepE and Step6 wrote under the tag writes, and nowhere else."""
        base = self.analyses / name
        return (base / self.tag if self.tag else base) / self.place


def paths_of_step6(folder: Path, tag: str | None) -> RunPaths:
    """The paths of the run and tag whose Step6 wrote into a folder, which may be a part of that of a sweep.

    Raises:
        ArtifactError: it is no folder of that tag.
    """
    paths = RunPaths(run_folder(folder), tag)
    if paths.step6 not in (folder, *folder.parents):
        raise ArtifactError(f"{folder} says that it is of the tag {tag!r}, whose results are in {paths.step6}.")
    place = folder.relative_to(paths.step6).as_posix()
    return replace(paths, place="" if place == "." else place)


def run_folder(step6: Path) -> Path:
    """The run that a Step6 folder belongs to; the folder itself where it is in none."""
    return next((parent.parent for parent in step6.parents if parent.name == "artifacts"), step6)


def refuse_one_file(folder: Path, names: Iterable[str]) -> None:
    """Refuse names that differ in case only, where the file system of `folder` would keep them in one file.

    Raises:
        ArtifactError: naming them.
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
    """Whether the file system of `folder`, which must exist, takes names that differ in case only for one."""
    with tempfile.NamedTemporaryFile(prefix=".case", dir=folder) as file:
        path = Path(file.name)
        return path.with_name(path.name.upper()).exists()


def refuse_links(root: Path) -> None:
    """Refuse a run's folder in which anything is a link, or neither a file nor a folder.

    Through a link a step would read, overwrite, append to or delete what is no part of the run. The folder itself may
    be one, for its user made it.

    Raises:
        ArtifactError: naming the first.
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
    """Whether a recorded name of a file is relative to its folder and stays inside it."""
    parts = name.split("/")
    return "\0" not in name and not any(part in ("", ".", "..") for part in parts)
