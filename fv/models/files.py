"""A model's files: in a package, in a local folder or GGUF file, in the hub's cache, or on the hub."""

from collections.abc import Callable
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE

from fv.config import ModelConfig
from fv.errors import ModelError, shorten
from fv.models.gguf import SCHEME, find_packaged

# The files of a snapshot besides its weights.
HUB_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]
TOKENIZERS = ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model", "vocab.txt", "tekken.json")
"""Files of tokenizers; a folder with none of these has no tokenizer."""


def gguf_of(model: ModelConfig) -> Path | None:
    """The GGUF file that `model` names, in a package or by its path; None if it names a folder or the hub.

    Raises:
        ModelError: the package or the file is missing.
    """
    if model.path is None:
        return (
            find_packaged(str(model.id), f"{model.ways.folder}, or {model.ways.hub}")
            if str(model.id).startswith(SCHEME)
            else None
        )
    path = Path(model.path)
    if path.suffix != ".gguf" or path.is_dir():
        return None
    if not path.is_file():
        raise ModelError(f"{model.called('path')}={path} does not exist.")
    return path


def hub_folder(model: ModelConfig, what: str, weights: list[str], lack_of: Callable[[Path], str | None]) -> Path:
    """The folder of a model's snapshot in the hub's cache; if it is not complete, it is downloaded.

    Args:
        model: names the hub id and the revision.
        what: the missing thing in the message: `Model`, or `The tokenizer of`.
        weights: patterns of the files to fetch besides the small ones.
        lack_of: says what a snapshot lacks, as a sentence; None if it is complete.

    Raises:
        ModelError: the snapshot is neither in the cache nor reachable; names three ways to provide it.
    """
    for local_only in (True, False):
        try:
            folder = Path(
                snapshot_download(
                    str(model.id),
                    revision=model.revision,
                    local_files_only=local_only,
                    allow_patterns=HUB_FILES + weights,
                )
            )
        except Exception as error:  # the hub's client raises many kinds of errors without a network
            reason: str | None = first_line(error)
            continue
        if (reason := lack_of(folder)) is None:
            return folder
    raise ModelError(
        f"{what} {model.id} (revision {model.revision or 'main'}) is neither in the hub cache {HF_HUB_CACHE} nor "
        f"reachable: {reason} Provide it in one of three ways: (1) on a machine with network, load it once to fill the "
        f"cache; (2) copy a model folder here and say {model.ways.folder}; (3) use the embedded model, "
        f"{model.ways.embedded}."
    )


def has_tokenizer(folder: Path) -> bool:
    """True if a folder has a tokenizer, and the configuration that names its class."""
    return (folder / "config.json").is_file() and any((folder / name).is_file() for name in TOKENIZERS)


def check_tokenizer(folder: Path) -> None:
    """Refuse a folder without a tokenizer; for some families, an empty one would be made instead.

    Raises:
        ModelError: the folder has none; names the files that a tokenizer may have.
    """
    if not has_tokenizer(folder):
        raise ModelError(
            f"{folder} has no tokenizer, for which config.json is needed and one of {', '.join(TOKENIZERS)}: save the "
            "model's own into it, with save_pretrained."
        )


def check_files(model: ModelConfig, folder: Path) -> None:
    """Refuse a model's folder without weights or a tokenizer, before anything is read.

    Raises:
        ModelError: the weights or the tokenizer are missing; says which, and what would be right.
    """
    check_tokenizer(folder)
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if not pickles:
        raise ModelError(f"{folder} has no weights (*.safetensors): save the model into it, with save_pretrained.")
    if not model.allow_pickle:
        raise ModelError(
            f"{folder} has its weights as pickles alone ({shorten(pickles, 3)}), which can run any code when they are "
            f"read. If you trust them, {model.called('allow_pickle')}=true reads them; or save them as safetensors."
        )


def first_line(error: Exception) -> str:
    """The first line of a library's error about a folder or a download."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
