"""Clusters of units that are not independent, reduced to one number each (docs/methods.md, "Intervals")."""

from collections.abc import Mapping, Sequence

import numpy as np


def per_cluster(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Each cluster's part in the mean of a series; intervals then treat it as one independent value.

    The part is the mean plus n_clusters / n_trials times the sum of the cluster's differences from the mean. The plain
    mean of the parts is the mean over trials. Their standard error is the cluster-robust standard error of that mean,
    taken as a ratio: sums of values over numbers of trials (W. G. Cochran, "Sampling Techniques", 1977, chapter 6;
    E. Miller, "Adding Error Bars to Evals", 2024). For clusters of equal size the part is the cluster's own mean.

    Args:
        values: (n_series, n_trials).
        clusters: (n_trials,), a label for each trial's cluster.

    Returns:
        (n_series, n_clusters), the clusters in order of first appearance. If each trial is a cluster of its own, the
        values are returned unchanged.

    Raises:
        ValueError: the number of labels is not the number of trials.

    Example:
        >>> per_cluster(np.array([[1.0, 3.0, 8.0]]), np.array(["a", "a", "b"]))  # the mean is 4
        array([[1.33333333, 6.66666667]])
    """
    n = values.shape[-1]
    if np.shape(clusters) != (n,):
        raise ValueError(f"{np.size(clusters)} labels of {n} trials: one each is due")
    numbers = numbered(np.asarray(clusters).tolist())
    n_clusters = len(set(numbers.tolist()))
    if n_clusters == n:
        return values
    # In this layout, a series' mean does not depend on how many series there are.
    values = np.ascontiguousarray(values, dtype=np.float64)
    mean = values.mean(-1, keepdims=True)
    sums = np.zeros((len(values), n_clusters))
    # Trial after trial: a series' sums do not depend on what other series there are.
    np.add.at(sums.T, numbers, (values - mean).T)
    return mean + n_clusters / n * sums


def numbered(labels: Sequence[object]) -> np.ndarray:
    """Labels as numbers from 0, in order of first appearance: (n_labels,) int."""
    places = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return np.array([places[label] for label in labels], dtype=np.int64)


def clusters_of(names: Sequence[str], clusters: Mapping[str, str] | None) -> np.ndarray:
    """Numbers, (n_names,) int, of the clusters that names belong to; a name without one is a cluster of its own."""
    known = clusters or {}
    # A cluster may have the same name as a unit outside it.
    return numbered([(True, known[name]) if name in known else (False, name) for name in names])
