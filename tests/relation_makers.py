"""Relations to sample trials from, and ways to sample them."""

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from fv.config import Config, DataConfig
from fv.data.encoder import Encoder
from fv.data.relation_sampler import QidTrials, RelationSampler
from fv.data.relations import Pair, Relation, Relations, normalise
from fv.data.sampling import sample_snapshot
from fv.data.snapshot import Snapshot
from fv.data.trial import Trial
from fv.models.language_model import LanguageModel

# Enough unrelated pairs for every request below, and noise that repeats, reverses, re-spells and contradicts them.
BASE = [Pair(f"in{i}", f"out{i}") for i in range(16)]
spellings = st.sampled_from(
    [spell(text) for pair in BASE[:8] for text in pair for spell in (str, str.upper, str.title)]
)
noise = st.lists(st.builds(Pair, spellings, spellings), max_size=8)
noisy_pairs = noise.map(lambda extra: [*BASE, *extra])
# Few words, so that outputs repeat and inputs are ambiguous all the time.
few_words = st.sampled_from(["a", "A", "b", "c", "d", "e", "ａ"])
dense_pairs = st.lists(st.builds(Pair, few_words, few_words), min_size=1, max_size=12, unique=True)
seeds = st.integers(0, 2**40)
light = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])


def relation(pairs: list[Pair], q_id: str = "q") -> Relation:
    return Relation(q_id, tuple(dict.fromkeys(pairs)), 0, 0)


def numbered(n: int, q_id: str = "q") -> Relation:
    """`n` unrelated pairs."""
    return relation([Pair(f"{q_id} in {i}", f"out {i}") for i in range(n)], q_id)


def request(**data: Any) -> DataConfig:
    return DataConfig(**{"n_trials_per_q": 4, "n_demos": 3, "n_eval_trials_per_q": 3, **data})


def sample(lm: LanguageModel, of: Relation, seed: int = 0, **data: Any) -> QidTrials:
    return RelationSampler(of, request(**data), seed, Encoder(lm, special=False)).sample()


def snapshot_of(lm: LanguageModel, relations: list[Relation], seed: int = 0, **data: Any) -> Snapshot:
    config = Config(data=request(**data), seed=seed)
    return sample_snapshot(Relations(Path("some.csv"), "0" * 64, tuple(relations)), config.data, config.seed, lm)


def are_kin(a: Pair, b: Pair) -> bool:
    """The rule, pair by pair: the same input, or each other's reverse, however spelled."""
    same_input = normalise(a.exA) == normalise(b.exA)
    return same_input or (normalise(a.exA), normalise(a.exB)) == (normalise(b.exB), normalise(b.exA))


def right_outputs(pairs: list[Pair], of: Pair) -> set[str]:
    return {normalise(pair.exB) for pair in pairs if normalise(pair.exA) == normalise(of.exA)}


def texts_of(trial: Trial) -> list[str]:
    return [trial.clean_prompt_str, trial.corrupted_prompt_str, trial.zero_shot_prompt_str, trial.target_str]
