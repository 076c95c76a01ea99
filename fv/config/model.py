"""Settings of the groups `model` and `compute`: the model, and its device, number format and engine."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

from annotated_types import Ge

from fv.config.checks import check_max_rows, check_name
from fv.config.group import Group
from fv.errors import ConfigError

AUTOMATIC_MAPS = ("auto", "balanced", "sequential")


class Quant(StrEnum):
    """Quantisation of weights at load."""

    none = "none"
    nf4 = "nf4"


class Dtype(StrEnum):
    """Number format of weights and activations."""

    fp32 = "fp32"
    fp64 = "fp64"
    bf16 = "bf16"
    fp16 = "fp16"


class SweepMode(StrEnum):
    """The engine that runs edits."""

    auto = "auto"
    shared_prefix = "shared_prefix"
    expanded = "expanded"
    naive = "naive"


class Ways(NamedTuple):
    """Settings that name a local folder, the embedded model, or a model of the hub; for messages."""

    folder: str
    embedded: str
    hub: str


@dataclass
class ModelConfig(Group):
    """Language model, and the use of its tokenizer.

    The defaults name no model, so that no model gets a setting of another; `fv.config.presets` has the ready models.
    """

    name: str = "local"
    """Short name: part of `run_id` and of file names."""
    id: str | None = None
    """Hub id such as `openai-community/gpt2`, or `package://<package>/<file>.gguf`."""
    path: str | None = None
    """Local folder in Hugging Face format, or a GGUF file; instead of `id`."""
    revision: str | None = None
    """Hub revision; null means `main`."""
    sha256: str | None = None
    """Expected SHA-256 of a GGUF file."""
    spec: str = "auto"
    """Family in `fv.models.spec`; `auto` finds it from the model's config."""
    spec_file: str | None = None
    """YAML file that describes a family of your own (docs/models.md); instead of `spec`."""
    allow_pickle: bool = False
    """Load pickled weights if there are no safetensors; a pickle can run any code, so only if you trust its source."""
    quant: Quant = Quant.none
    """Quantisation at load: `nf4` keeps weights in 4 bits (needs the extra `quant`); never canonical."""
    device_map: Any = None
    """Placement of a model larger than one device: `auto`, `balanced`, `sequential`, or {module path: device number,
    `cpu` or `disk`}; null means all on `compute.device`. Never canonical (docs/models.md)."""
    max_memory: Any = None
    """Memory for `auto`, `balanced`, `sequential`: {device number or `cpu`: size such as `10GiB`}; null means all."""
    offload_folder: str | None = None
    """Folder for the weights of `disk` modules that cannot be read directly from the model's files."""
    add_special_tokens: Any = "auto"
    """Special tokens (BOS) around prompts: `auto` or true, those that the tokenizer adds by itself; false, none."""

    def validate(self) -> None:
        super().validate()
        check_name(self.called("name"), self.name)
        self.device_map = parse_device_map(self.called("device_map"), self.device_map)
        self.max_memory = parse_max_memory(self.called("max_memory"), self.max_memory)
        self._check_placement()
        # Not `in`, which would take 1 for true.
        if self.add_special_tokens != "auto" and not isinstance(self.add_special_tokens, bool):
            raise ConfigError(
                f"{self.called('add_special_tokens')}={self.add_special_tokens!r} must be auto (what the tokenizer "
                "does by itself), true or false."
            )
        if (self.id is None) == (self.path is None):
            given = "both" if self.id else "neither"
            way = "model=gpt2" if self.group else f"{self.called('id')}=openai-community/gpt2"
            raise ConfigError(
                f"A model comes from {self.called('id')} (hub id or package file) or from {self.called('path')} (a "
                f"local folder); {given} is given. For example: {way}, or {self._local}=/path/to/folder."
            )

    @property
    def ways(self) -> Ways:
        """Settings that name another model, for messages."""
        member = f"{self.group}=" if self.group else ""
        return Ways(f"{self._local}=<folder>", f"{member}smollm2", f"{self.called('id')}=<hub id>")

    @property
    def _local(self) -> str:
        """Settings that name a local folder, without the folder itself."""
        return f"{self.group}=local {self.called('path')}" if self.group else self.called("path")

    def _check_placement(self) -> None:
        device_map = self.called("device_map")
        if self.max_memory is not None and not isinstance(self.device_map, str):
            raise ConfigError(
                f"{self.called('max_memory')} is what {device_map}=auto, balanced or sequential may use; "
                f"it has no effect with {device_map}={shown_map(self.device_map)}."
            )
        if self.offload_folder is not None and self.device_map is None:
            raise ConfigError(f"{self.called('offload_folder')} is for modules on disk; give a {device_map} as well.")
        if self.device_map is not None and self.quant is not Quant.none:
            raise ConfigError(
                f"{device_map} and {self.called('quant')}={self.quant.value} do not go together: moving quantised "
                "weights between devices is not tested. Leave one of them out."
            )


@dataclass
class ComputeConfig(Group):
    """Device, number format and engine of the computation."""

    device: str = "cpu"
    """torch's name of the device; any but `cpu` needs `strict=false`."""
    dtype: Dtype = Dtype.fp32
    threads: Annotated[int, Ge(1)] | None = None
    """CPU threads; null means torch's default. Recorded, because it changes the last bits."""
    strict: bool = True
    """Allow only canonical runs: cpu and fp32. False allows others, and marks the run non-canonical."""
    sweep: SweepMode = SweepMode.auto
    """Engine: `shared_prefix` (fastest), `expanded` (any family), `naive` (one forward per edit), or `auto`, the
    fastest that the family allows."""
    max_rows: Any = 4096
    """Maximal number of token rows in one pass, which bounds memory; `auto`: as many as fit half of the free memory, or
    the recorded number of a run that is continued. It changes the last bits."""
    unit_trials: Annotated[int, Ge(1)] | None = None
    """Approximate number of trials in a unit, the work that a kill may lose or a worker gets; null means 64, or one
    pass on a cluster. It changes no byte."""
    keep_mb: Annotated[int, Ge(0)] = 2048
    """Megabytes of prompts that `score.screen` keeps in memory between estimate and verification; other prompts run
    twice. It changes no byte."""
    selfcheck: bool = True
    """Check at load that edits act and that the engine equals the naive loop; the cache keeps passed checks."""
    tf32: bool = False
    """Multiply float32 matrices in TF32 on CUDA, with ten bits of mantissa: faster, with errors of 1e-3."""
    deterministic: bool = False
    """Use only algorithms that give the same bits each time, even if they are slower; refuse operations without one."""

    def validate(self) -> None:
        super().validate()
        check_max_rows(self.called("max_rows"), self.max_rows)


def check_one_placement(model: ModelConfig, compute: ComputeConfig) -> None:
    """Refuse a device for the whole model together with a device map."""
    if model.device_map is not None and compute.device != "cpu":
        raise ConfigError(
            f"model.device_map={shown_map(model.device_map)} places the model, and so does "
            f"compute.device={compute.device}. Leave compute.device at cpu; the map names devices itself."
        )


def parse_device_map(key: str, value: Any) -> str | dict[str, int | str] | None:
    """Check a device map: `auto`, `balanced` or `sequential`, or {module path: device}; numbers become int."""
    if value is None or value in AUTOMATIC_MAPS:
        return value
    allowed = (
        f"{', '.join(AUTOMATIC_MAPS)}, or a mapping from module paths to a device number, cpu or disk, like "
        "{model.embed_tokens: 0, model.layers.0: 0, model.layers.1: cpu, model.norm: 0, lm_head: 0}"
    )
    if not isinstance(value, dict) or not value:
        raise ConfigError(f"{key}={value!r} must be {allowed}.")
    found: dict[str, int | str] = {}
    for path, device in value.items():
        if not isinstance(path, str):
            raise ConfigError(f"{key} names {path!r}, which is no module path. It must be {allowed}.")
        name = _device_name(device)
        if name is None:
            raise ConfigError(f"{key} places {path!r} on {device!r}. It must be {allowed}.")
        found[path] = int(name) if name.isdigit() else name
    return found


def parse_max_memory(key: str, value: Any) -> dict[str, int | str] | None:
    """Check {device number or `cpu`: bytes, or a size such as `10GiB`}; devices become text, as in JSON."""
    if value is None:
        return None
    example = "a mapping from a device number or cpu to a size, like {0: 10GiB, cpu: 30GiB}"
    if not isinstance(value, dict) or not value:
        raise ConfigError(f"{key}={value!r} must be {example}.")
    found: dict[str, int | str] = {}
    for device, size in value.items():
        name = _device_name(device)
        if name is None or name == "disk":
            raise ConfigError(f"{key} names the device {device!r}. It must be {example}.")
        number = isinstance(size, int) and not isinstance(size, bool) and size >= 0
        if not number and not (isinstance(size, str) and re.fullmatch(r"\d+(\.\d+)?([KMG]i?B)", size)):
            raise ConfigError(
                f"{key} gives {device} {size!r}. It must be {example}: bytes, or KB, MB, GB, KiB, MiB, GiB."
            )
        found[name] = size
    return found


def shown_map(device_map: str | dict[str, int | str] | None) -> str:
    """A device map in a message."""
    return "null" if device_map is None else device_map if isinstance(device_map, str) else "{…}"


def _device_name(device: Any) -> str | None:
    """The name of a device: `cpu`, `disk` or a number as text; None if it is not one of these."""
    if isinstance(device, bool) or not isinstance(device, int | str):
        return None
    name = str(device)
    return str(int(name)) if name.isascii() and name.isdigit() else name if name in ("cpu", "disk") else None
