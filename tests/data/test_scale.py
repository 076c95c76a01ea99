"""Large files: what was made fast gives what the plain definition gives, and a million rows fit."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from hypothesis import given
from hypothesis import strategies as st

from fv.config.data import DataConfig
from fv.data.corruption import OutputTable
from fv.data.encoder import Encoder
from fv.data.kin_groups import kin_groups
from fv.data.relations import Pair, Relation, Relations, normalise
from fv.data.sampling import sample_snapshot
from fv.data.snapshot import Snapshot
from fv.models.language_model import LanguageModel

words = st.sampled_from(["a", "A", "b", "B ", "c", "d", "é", "É", "e\u0301", "ｂ"])
pairs_of_few_words = st.lists(st.builds(Pair, words, words), min_size=1, max_size=25)
ROWS = 1_000_000
READ = """
import sys
from pathlib import Path
from fv.config import DataConfig
from fv.data.relations import read_configured
file = read_configured(DataConfig(relation_csv_path=sys.argv[1]))
# Not getrusage: its peak is that of the process that started this one, where that was larger.
status = Path("/proc/self/status").read_text()
peak = int(status.partition("VmHWM:")[2].split()[0]) / 2**20
print(len(file.relations), sum(len(r.pairs) for r in file.relations), peak)
"""


@given(pairs=pairs_of_few_words)
def test_kin_are_the_pairs_that_share_an_input_or_reverse_each_other(pairs: list[Pair]) -> None:
    ends = [(normalise(pair.exA), normalise(pair.exB)) for pair in pairs]
    expected = np.eye(len(pairs), dtype=bool)
    for i, (a, b) in enumerate(ends):
        for j, (c, d) in enumerate(ends):
            expected[i, j] |= a == c or (a, b) == (d, c)
    for middle in range(len(pairs)):  # kinship is passed on
        expected |= np.outer(expected[:, middle], expected[middle])
    groups = kin_groups(pairs)
    assert (np.equal.outer(groups, groups) == expected).all()


@given(pairs=pairs_of_few_words)
def test_an_input_of_its_own_needs_no_entry_among_the_right_outputs(pairs: list[Pair]) -> None:
    groups = kin_groups(pairs).tolist()
    shared = [pair for pair, group in zip(pairs, groups, strict=True) if groups.count(group) > 1]
    whole, lean = OutputTable(pairs), OutputTable(pairs, shared)
    assert whole.choices == lean.choices
    for demo in pairs:
        for output in whole.choices:
            assert whole.is_wrong(demo, output) == lean.is_wrong(demo, output)


@given(text=st.text(st.characters(max_codepoint=127)))
def test_the_short_way_to_normalise_plain_text_is_the_long_way(text: str) -> None:
    assert normalise(text) == normalise(text + "\u00e9").removesuffix("\u00e9").rstrip()


class Counting:
    """A tokenizer that counts its calls."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.n_calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def __call__(self, texts: list[str], **options: Any) -> Any:
        self.n_calls += 1
        return self.tokenizer(texts, **options)


def snapshot_of(lm: LanguageModel, special: bool) -> Snapshot:
    """Two relations of 150 pairs, with the counts that are the default."""
    relations = [Relation(q, tuple(Pair(f"in {i}", f"out {q} {i}") for i in range(150)), 0, 0) for q in ("a", "b")]
    return sample_snapshot(Relations(Path("some.csv"), "0" * 64, tuple(relations)), DataConfig(), 42, lm, special)


def test_prompts_with_a_known_border_are_not_tokenised(tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = snapshot_of(tiny_lm, special=False)
    encoded: list[str] = []

    def apart(_: Encoder, target: str) -> list[int]:
        encoded.append(target)
        return tiny_lm.encode(target, False)

    monkeypatch.setattr("fv.data.encoder.Encoder.encode_apart", apart)
    monkeypatch.setattr("fv.data.encoder.Encoder.encode", lambda _, texts: [pytest.fail(text) for text in texts])
    assert snapshot_of(tiny_lm, special=False) == expected
    assert set(encoded) == {f" out {q} {i}" for q in ("a", "b") for i in range(150)}


def test_without_a_known_border_a_trial_and_a_hundred_outputs_are_one_call_each(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = snapshot_of(tiny_lm, special=False)
    monkeypatch.setattr("fv.data.encoder.borders_of", lambda _: "")
    tokenizer = Counting(tiny_lm.tokenizer)
    snapshot = snapshot_of(dataclasses.replace(tiny_lm, tokenizer=tokenizer), special=False)
    assert snapshot.trials == expected.trials
    n_eval = sum(trial.split == "eval" for trial in snapshot.trials)
    assert tokenizer.n_calls == len(snapshot.trials) + n_eval + 2 * 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.parametrize("n_qids", [2000, 1])
def test_a_million_rows_are_read_within_a_gigabyte(tmp_path: Path, n_qids: int) -> None:
    path = tmp_path / "big.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("q_id,exA,exB\n")
        file.writelines(f"rel{i % n_qids},input word {i},output {i}\n" for i in range(ROWS))
    done = run("-c", READ, str(path))
    relations, pairs, gigabytes = map(float, done.stdout.split())
    assert (relations, pairs) == (n_qids, ROWS)
    assert gigabytes < 1
