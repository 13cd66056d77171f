"""How alike vectors are: cosines, principal components, layers like one another.

Numbers only, in float64. The direction of a zero vector is undefined: its cosines are NaN, which
pictures and tables leave empty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def norms(vectors: Array) -> Array:
    """Euclidean length of each row; ``vectors`` of shape (n, width), result (n,)."""
    return np.asarray(np.linalg.norm(vectors, axis=1))


def unit(vectors: Array) -> Array:
    """Each row at length 1, shape (n, width); NaN where a row is zero."""
    length = norms(vectors)[:, None]
    return np.divide(vectors, length, out=np.full_like(vectors, np.nan), where=length > 0)


def cosine_matrix(vectors: Array) -> Array:
    """Cosine of every row with every row, shape (n, n): symmetric, ones on the diagonal.

    Args:
        vectors: shape (n, width). A zero row gives a row and a column of NaN.
    """
    directions = unit(vectors)
    cosines = np.clip(directions @ directions.T, -1, 1)
    # Exactly, whatever the last bit of the product says; NaN stays NaN.
    return np.asarray(np.where(np.eye(len(vectors)) == 1, np.sign(cosines), cosines))


def paired_cosines(first: Array, second: Array) -> Array:
    """Cosine of row i with row i, shape (n,); both of shape (n, width), NaN where one is zero."""
    return np.asarray(np.clip((unit(first) * unit(second)).sum(axis=1), -1, 1))


def mean_known(values: Array) -> float:
    """Mean of the values that are not NaN; NaN if there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def principal_components(directions: Array) -> tuple[Array, Array]:
    """The first two principal components of points that have an order.

    PCA leaves each axis' sign open. Here the points go from left to right along the first, and
    their middle lies above their ends along the second, so that two pictures can be compared.

    Args:
        directions: shape (n, width), n >= 3, in order, finite.

    Returns:
        The points' coordinates, shape (n, 2), and the share of the variance that lies along each
        axis, shape (2,). All zero if the points are one and the same.

    Raises:
        ValueError: fewer than three points or two dimensions (sklearn's own message), or NaN.
    """
    # A second and more to load, which not all users of this module need.
    from sklearn.decomposition import PCA

    count = len(directions)
    if count < 3:
        raise ValueError(f"two components of {count} points say nothing")
    if not (directions - directions[0]).any():
        return np.zeros((count, 2)), np.zeros(2)
    # The exact solver: the randomised one would differ from run to run.
    pca = PCA(n_components=2, svd_solver="full")
    points = pca.fit_transform(directions)
    along = np.arange(count) - (count - 1) / 2
    inward = -np.abs(along)
    for axis, weights in enumerate((along, inward - inward.mean())):
        if points[:, axis] @ weights < 0:
            points[:, axis] *= -1
    return np.asarray(points), np.asarray(pca.explained_variance_ratio_)


def neighbour_mean(matrix: Array, layers: Sequence[int]) -> float:
    """Mean cosine of layers L and L + 1.

    Args:
        matrix: cosines between the layers, shape (n, n).
        layers: their numbers, ascending, length n. Pairs with a gap between them do not count.

    Returns:
        The mean over the pairs; NaN if there is none.
    """
    pairs = [matrix[i, i + 1] for i in range(len(layers) - 1) if layers[i + 1] == layers[i] + 1]
    return mean_known(np.array(pairs, dtype=np.float64))


def layers_like(
    matrix: Array, layers: Sequence[int], reference: int, threshold: float
) -> tuple[int, int]:
    """First and last layer of the run around ``reference`` whose cosine with it is above a bound.

    Args:
        matrix: cosines between the layers, shape (n, n).
        layers: their numbers, ascending, length n.
        reference: one of ``layers``.
        threshold: the bound.
    """
    centre = list(layers).index(reference)
    alike = matrix[centre] > threshold
    low = high = centre
    while low > 0 and alike[low - 1]:
        low -= 1
    while high + 1 < len(layers) and alike[high + 1]:
        high += 1
    return layers[low], layers[high]
