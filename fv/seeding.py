"""Random generators that depend on the seed and their purpose only, never on what was drawn before."""

import hashlib

import numpy as np


def generator_for(seed: int, *names: object) -> np.random.Generator:
    """The random generator for one purpose; the same seed and names give the same numbers, whatever else a run does."""
    words = np.frombuffer(hashlib.sha256("\0".join(map(str, names)).encode()).digest(), dtype="<u4")
    return np.random.default_rng(np.random.SeedSequence([seed, *words.tolist()]))
