"""A model's tokenizer, loaded without its weights, to check data with."""

import contextlib
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Required, TypedDict

from transformers import AutoConfig, AutoTokenizer

from fv.config import ModelConfig
from fv.errors import ArtifactError, ModelError
from fv.files import digest_of, read_json, sha256_of
from fv.models.files import check_tokenizer, first_line, gguf_of, has_tokenizer, hub_folder
from fv.models.gguf import conversion_of
from fv.models.language_model import positions_of
from fv.models.loading import locate
from fv.models.quiet import quiet_transformers
from fv.models.spec import ModelSpec, find_spec
from fv.models.token_ids import tokenizer_digest


@dataclass(frozen=True, eq=False)
class ModelTokenizer:
    """The part of a `LanguageModel` that needs no weights; the attributes have the same names and meanings there.

    Attributes:
        tokenizer: the model's tokenizer.
        max_tokens: most tokens of a prompt that the model has positions for.
        spec: the module paths of its family.
        name: short name used in file names and tables.
        fingerprint: the digest of the tokenizer.
    """

    tokenizer: Any
    max_tokens: int
    spec: ModelSpec
    name: str
    fingerprint: dict[str, str]


def load_tokenizer(model: ModelConfig) -> ModelTokenizer:
    """Load the tokenizer of a model, without the weights.

    Raises:
        ModelError: there is no such model, or it has no tokenizer or is of an unknown family.
    """
    source = tokenizer_source(model)
    try:
        # The reader of GGUF files draws its own bars even without a terminal.
        with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
            config = AutoConfig.from_pretrained(**source, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(**source, trust_remote_code=False)
    except Exception as error:  # a loader raises many kinds of errors about a folder
        name = source["pretrained_model_name_or_path"]
        raise ModelError(f"{name} has no usable tokenizer: {first_line(error)}") from error
    spec = find_spec(config.model_type, model.spec, model.spec_file, model.called)
    fingerprint = {"tokenizer_sha256": tokenizer_digest(tokenizer)}
    return ModelTokenizer(tokenizer, positions_of(config), spec, model.name, fingerprint)


def fingerprint_of(model: ModelConfig) -> dict[str, str]:
    """The fingerprint of a model, as for a loaded one (`LanguageModel.fingerprint`), without loading its weights.

    Raises:
        ModelError: there is no such model, or it has no tokenizer or is of an unknown family.
    """
    _, fingerprint = locate(model)
    found = load_tokenizer(model)
    spec = {"spec_sha256": digest_of(asdict(found.spec))} if model.spec_file else {}
    return {**fingerprint, **found.fingerprint, **spec}


class TokenizerSource(TypedDict, total=False):
    """Arguments of `from_pretrained`: the folder, and the file in it if that is a GGUF file."""

    pretrained_model_name_or_path: Required[str]
    gguf_file: str


def tokenizer_source(model: ModelConfig) -> TokenizerSource:
    """The arguments of `from_pretrained` that find a model's tokenizer."""
    if gguf := gguf_of(model):
        # Reading a tokenizer from a GGUF file takes ten seconds; a converted model has it as a file.
        converted, _ = conversion_of(gguf, model.sha256, model.called("sha256"))
        if _is_whole(converted):
            return {"pretrained_model_name_or_path": str(converted)}
        return {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    if model.path is None:
        folder = hub_folder(model, "The tokenizer of", [], lambda f: None if has_tokenizer(f) else "it has none.")
        return {"pretrained_model_name_or_path": str(folder)}
    check_tokenizer(Path(model.path))
    return {"pretrained_model_name_or_path": model.path}


def _is_whole(folder: Path) -> bool:
    """True if the small files of a converted folder match its manifest."""
    try:
        recorded = read_json(folder / "manifest.json")["sha256"]
        small = [name for name in recorded if not name.endswith(".safetensors")]
        return "tokenizer.json" in small and all(sha256_of(folder / name) == recorded[name] for name in small)
    except (ArtifactError, OSError, KeyError, TypeError):
        return False
