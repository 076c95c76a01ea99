"""A proof that was made counts for the very same model, and for nothing else."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fv.errors import SpecError
from fv.interventions import proofs
from fv.interventions.proofs import proof_of
from fv.interventions.selfcheck import selfcheck
from fv.models.language_model import LanguageModel


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The names of the models whose self-check was made; nothing was proved before."""
    monkeypatch.setenv("FV_CACHE_DIR", str(tmp_path))
    names: list[str] = []

    def counted(lm: LanguageModel) -> dict[str, Any]:
        names.append(lm.name)
        return selfcheck(lm)

    monkeypatch.setattr(proofs, "selfcheck", counted)
    return names


def test_a_model_that_was_proved_is_not_proved_again(tiny_llama: LanguageModel, made: list[str]) -> None:
    assert proof_of(tiny_llama) == proof_of(tiny_llama)
    assert len(made) == 1
    assert proof_of(tiny_llama, fresh=True)["sweep_vs_naive"] < 2e-5
    assert len(made) == 2


def other_weights(lm: LanguageModel) -> LanguageModel:
    return replace(lm, fingerprint={**lm.fingerprint, "weights_sha256": "0" * 64})


@pytest.mark.parametrize(
    "change",
    [
        lambda lm, patch: other_weights(lm),
        lambda lm, patch: (patch.setattr(proofs, "PACKAGES", ("torch", "numpy")), lm)[1],
        lambda lm, patch: (patch.setattr(proofs, "ENGINE_REVISION", -1), lm)[1],
        lambda lm, patch: (patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "other"), lm)[1],
    ],
    ids=["weights", "versions", "engine", "processor"],
)
def test_a_proof_counts_for_nothing_else(
    change: Callable[..., LanguageModel],
    tiny_llama: LanguageModel,
    made: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proof_of(tiny_llama)
    proof_of(change(tiny_llama, monkeypatch))
    assert len(made) == 2


def test_a_refusal_never_becomes_a_pass(tiny_llama: LanguageModel, made: list[str], tmp_path: Path) -> None:
    proof_of(tiny_llama)
    wrong = replace(tiny_llama, spec=replace(tiny_llama.spec, out_proj="self_attn.q_proj"))
    for _ in range(2):
        with pytest.raises(SpecError):
            proof_of(wrong)
    assert len(list((tmp_path / "proofs").iterdir())) == 1


@pytest.mark.parametrize("damage", ["", "{}", '{"of": 1, "measured": {"sweep_vs_naive": 0}}'])
def test_a_damaged_proof_is_made_again(damage: str, tiny_llama: LanguageModel, made: list[str], tmp_path: Path) -> None:
    whole = proof_of(tiny_llama)
    (path,) = (tmp_path / "proofs").iterdir()
    path.write_text(damage)
    assert proof_of(tiny_llama) == whole
    assert len(made) == 2


def test_a_cache_that_cannot_be_written_costs_the_proof_only(
    tiny_llama: LanguageModel, made: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FV_CACHE_DIR", str(tmp_path / "file"))
    assert proof_of(tiny_llama)["identity_bit_equal"]
