"""Settings of the groups `model` and `compute`: which model, and how exactly it is run."""

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
    """How weights are quantised at load."""

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
    """How a local folder, the embedded model and one of the hub are named."""

    folder: str
    embedded: str
    hub: str


@dataclass
class ModelConfig(Group):
    """Which language model, and how its tokenizer is used.

    The defaults name no model, so that one never has a setting of another; `fv.config.presets` holds the ready ones.
    """

    name: str = "local"
    """Short name: part of `run_id` and of file names."""
    id: str | None = None
    """Hub id such as `openai-community/gpt2`, or `package://<package>/<file>.gguf`."""
    path: str | None = None
    """A local folder in Hugging Face format, or a GGUF file; instead of `id`."""
    revision: str | None = None
    """Hub revision; null means `main`."""
    sha256: str | None = None
    """Expected SHA-256 of a GGUF file."""
    spec: str = "auto"
    """Family in `fv.models.spec`; `auto` finds it from the model's own config."""
    spec_file: str | None = None
    """A family of one's own, described in a YAML file (docs/models.md); instead of `spec`."""
    allow_pickle: bool = False
    """Load pickled weights where there are no safetensors; a pickle can run any code, so only from those you trust."""
    quant: Quant = Quant.none
    """Quantisation at load: `nf4` keeps weights in 4 bits (needs the extra `quant`); never canonical."""
    device_map: Any = None
    """For a model larger than one device: `auto`, `balanced`, `sequential`, or {module path: device number, `cpu` or
    `disk`}; null: all of it on `compute.device`. Never canonical (docs/models.md)."""
    max_memory: Any = None
    """What `auto`, `balanced` and `sequential` may use: {device number or `cpu`: size such as `10GiB`}; null: all."""
    offload_folder: str | None = None
    """Where weights of `disk` modules are written that cannot be read from the model's own files as they are there."""
    add_special_tokens: Any = "auto"
    """Special tokens (BOS) around prompts: `auto` or true, those the tokenizer adds by itself; false, none."""

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
        """How one names another model, for a message."""
        member = f"{self.group}=" if self.group else ""
        return Ways(f"{self._local}=<folder>", f"{member}smollm2", f"{self.called('id')}=<hub id>")

    @property
    def _local(self) -> str:
        """How one names a local folder, up to the folder."""
        return f"{self.group}=local {self.called('path')}" if self.group else self.called("path")

    def _check_placement(self) -> None:
        device_map = self.called("device_map")
        if self.max_memory is not None and not isinstance(self.device_map, str):
            raise ConfigError(
                f"{self.called('max_memory')} is what {device_map}=auto, balanced or sequential may use; "
                f"it says nothing about {device_map}={shown_map(self.device_map)}."
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
    """Where and how exactly numbers are computed."""

    device: str = "cpu"
    """torch's name of the device; any but `cpu` needs `strict=false`."""
    dtype: Dtype = Dtype.fp32
    threads: Annotated[int, Ge(1)] | None = None
    """CPU threads; null means torch's own default. Recorded, because it changes the last bits."""
    strict: bool = True
    """Canonical runs only: cpu and fp32. False allows others and marks the run non-canonical."""
    sweep: SweepMode = SweepMode.auto
    """The engine: `shared_prefix` (fastest), `expanded` (any family), `naive` (one forward an edit), or `auto`: the
    fastest that the family allows."""
    max_rows: Any = 4096
    """Most token rows in one pass: bounds memory; `auto`: what fits half of the free memory, or what the run was begun
    with. The number is recorded, because it changes the last bits."""
    unit_trials: Annotated[int, Ge(1)] | None = None
    """About how many trials a unit of work holds, in whole passes: what a killed run may lose, and what workers share;
    null means 64, and one pass where workers of a cluster share them. It changes no byte."""
    keep_mb: Annotated[int, Ge(0)] = 2048
    """With `score.screen`, up to so many megabytes of prompts that were run stay in memory until heads are verified in
    them; the others run twice. It changes no byte."""
    selfcheck: bool = True
    """Prove at load that edits act and that the engine equals the naive loop; for a model that was proved before, the
    record of it in the cache will do."""
    tf32: bool = False
    """Let a CUDA device multiply float32 matrices in TF32, with ten bits of mantissa: faster, and off by 1e-3."""
    deterministic: bool = False
    """Take algorithms only that give the same bits each time, where a device has faster ones that do not; what has none
    is refused."""

    def validate(self) -> None:
        super().validate()
        check_max_rows(self.called("max_rows"), self.max_rows)


def check_one_placement(model: ModelConfig, compute: ComputeConfig) -> None:
    """Refuse a device for the whole model beside a map of it."""
    if model.device_map is not None and compute.device != "cpu":
        raise ConfigError(
            f"model.device_map={shown_map(model.device_map)} places the model, and so does "
            f"compute.device={compute.device}. Leave compute.device at cpu; the map names devices itself."
        )


def parse_device_map(key: str, value: Any) -> str | dict[str, int | str] | None:
    """`auto`, `balanced` or `sequential`, or {module path: device}, with device numbers as numbers; null passes."""
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
    """{device number or `cpu`: bytes, or a size such as `10GiB`}, with devices as text, as JSON has them."""
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
    """`cpu`, `disk` or a number as text; None if it is no such device."""
    if isinstance(device, bool) or not isinstance(device, int | str):
        return None
    name = str(device)
    return str(int(name)) if name.isascii() and name.isdigit() else name if name in ("cpu", "disk") else None
