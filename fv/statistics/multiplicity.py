"""Tests of many means at once: p-values, and p-values adjusted for the number of tests (docs/methods.md)."""

from collections.abc import Iterator

import numpy as np
import scipy  # its parts are loaded when they are first used, which takes a while

from fv.seeding import generator_for

N_FLIPS = 10_000
"""Number of random sign flips, if not all flips are taken."""
_AT_ONCE = 2_000_000
"""Numbers held in memory at once."""
_ROUNDING = 1e-9
"""Relative difference within which two statistics count as equal."""


def two_sided_t(values: np.ndarray) -> np.ndarray:
    """p-values of Student's t test that a mean is zero, two-sided.

    Args:
        values: (n_series, n), independent along the last axis.

    Returns:
        (n_series,); NaN with fewer than two values. It is 0 if all values are equal, or 1 if all are zero.
    """
    n_series, n = values.shape
    if n < 2:
        return np.full(n_series, np.nan)
    mean, varied = values.mean(-1), np.ptp(values, -1) > 0
    se = np.where(varied, values.std(-1, ddof=1), 0.0) / np.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(np.where(mean == 0, 0.0, mean / se))
    return np.asarray(2 * scipy.stats.t.sf(t, n - 1))


def q_values(p: np.ndarray, n_tests: int | None = None) -> np.ndarray:
    """The smallest false discovery rate at which each test is among the discoveries.

    The procedure is Benjamini and Hochberg's ("Controlling the False Discovery Rate", 1995), by
    `scipy.stats.false_discovery_control`. It holds for tests that are independent or positively dependent.

    Args:
        p: (n,), from 0 to 1; NaN for a test that could not be made, which counts as 1.
        n_tests: the number of tests, including tests without a p, which count as 1; None for the tests of `p` only.

    Returns:
        (n,); NaN where `p` is.

    Raises:
        ValueError: `n_tests` is smaller than the number of tests in `p`.

    Example:
        >>> q_values(np.array([0.01, 0.5]), n_tests=4)
        array([0.04, 1.  ])
    """
    missing, padded = _family(p, n_tests)
    found = np.asarray(scipy.stats.false_discovery_control(padded)) if len(padded) else padded
    return np.where(missing, np.nan, found[: len(p)])


def holm(p: np.ndarray) -> np.ndarray:
    """p-values adjusted so that the chance of one or more false discoveries is at most their level.

    After S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979); it holds for any dependence.

    Args:
        p: (n,), from 0 to 1; NaN for a test that could not be made, which counts as 1.

    Returns:
        (n,); NaN where `p` is.
    """
    missing, known = _family(p, None)
    order = np.argsort(known, kind="stable")
    found = np.empty(len(known))
    steps = known[order] * np.arange(len(known), 0, -1)
    found[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return np.where(missing, np.nan, found)


def sign_flip_max_t(values: np.ndarray, seed: int, *purpose: object, n_flips: int = N_FLIPS) -> np.ndarray:
    """p-values of means, two-sided, adjusted over all series by the largest |t| under flips of signs.

    If nothing has an effect and values are symmetric about zero, each unit could equally well have had the other sign,
    in all series at once. An adjusted p is the share of flips whose largest |t| over all series reaches
    the series' own (P. H. Westfall and S. S. Young, "Resampling-Based Multiple Testing", 1993, single-step maxT).

    Args:
        values: (n_series, n), one column per independent unit.
        seed: the run's seed.
        purpose: what the flips are for; the same purpose draws the same flips.
        n_flips: number of random flips, besides the unflipped values; all 2**n flips if that is no more.

    Returns:
        (n_series,); NaN with fewer than two units. No p is below 2 / 2**n, or 1 / (n_flips + 1).
    """
    n_series, n = values.shape
    if n < 2 or not n_series:
        return np.full(n_series, np.nan)
    # |t| rises with the squared sum over n times the sum of squares; flips do not change the latter. A series' scale
    # does not matter; at a scale of about 1, no square underflows.
    scale = np.abs(values).max(-1, keepdims=True)
    scaled = values / np.where(scale > 0, scale, 1.0)
    squares = n * (scaled**2).sum(-1)  # (n_series,)
    squares[squares == 0] = 1.0
    own = scaled.sum(-1) ** 2 / squares
    every = 2**n <= n_flips
    parts = _all_signs(n) if every else _random_signs(n, n_flips, max(1, _AT_ONCE // max(n, n_series)), seed, purpose)
    largest = np.concatenate([((signs @ scaled.T) ** 2 / squares).max(-1) for signs in parts])  # (n_flips,)
    reached = len(largest) - np.searchsorted(np.sort(largest), own * (1 - _ROUNDING))
    return reached / len(largest) if every else (reached + 1) / (len(largest) + 1)


def _family(p: np.ndarray, n_tests: int | None) -> tuple[np.ndarray, np.ndarray]:
    """A mask of the tests of `p` that have none, and the p of all tests, 1 if unknown."""
    n = len(p) if n_tests is None else n_tests
    if n < len(p):
        raise ValueError(f"n_tests={n} of {len(p)} tests: there cannot be fewer")
    missing = np.isnan(p)
    return missing, np.concatenate([np.where(missing, 1.0, p), np.ones(n - len(p))])


def _all_signs(n: int) -> Iterator[np.ndarray]:
    """Every choice of n signs, (2**n, n)."""
    yield 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)


def _random_signs(n: int, n_flips: int, at_once: int, seed: int, purpose: tuple[object, ...]) -> Iterator[np.ndarray]:
    """Random choices of n signs, several at once: (n_some, n) each."""
    rng = generator_for(seed, "flips", *purpose)
    signs = rng.integers(0, 2, (n_flips, n), dtype=np.int8)
    for start in range(0, n_flips, at_once):
        yield 1.0 - 2.0 * signs[start : start + at_once]
