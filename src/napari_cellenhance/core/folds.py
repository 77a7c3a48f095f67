"""Cross-validation by image: every image is tested once, by a network that has not seen it nor its kin; few labels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from napari_cellenhance.core.errors import ParameterError

__all__ = ["Fold", "k_folds", "nested_subsets"]


@dataclass(frozen=True, slots=True)
class Fold:
    """Indices of images, rising: to learn from, to choose the best weights by, and to test.

    Parameters
    ----------
    train, validation, test : tuple of int
        No image is in two of them; ``validation`` was taken from the training part.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def k_folds(
    n_images: int,
    n_folds: int,
    *,
    groups: Sequence[Hashable] | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
) -> tuple[Fold, ...]:
    """Split images into folds at random.

    Parameters
    ----------
    n_images : int
    n_folds : int
        2 or more.
    groups : sequence of hashable, optional
        One for each image; images of the same group, such as crops of one slice, are never torn apart. None: each image
        is its own group.
    validation_fraction : float
        Share of a fold's other images that is kept for validation, at least one group; above 0 and at most 0.5.
    seed : int
        The same seed gives the same folds.

    Returns
    -------
    tuple of Fold
        Their test parts hold every image once, in about equal numbers.

    Raises
    ------
    ParameterError
        A number or share outside its range, or too few groups: a fold needs one each to train, validate and test.

    Examples
    --------
    >>> [len(fold.test) for fold in k_folds(7, 3)]
    [3, 2, 2]
    """
    names = list(range(n_images)) if groups is None else list(groups)
    if len(names) != n_images:
        raise ParameterError(f"{len(names)} groups were given for {n_images} images; expected one for each")
    if not 0 < validation_fraction <= 0.5:
        raise ParameterError(f"the share for validation is {validation_fraction}; expected above 0 and at most 0.5")
    members: dict[Hashable, list[int]] = {}
    for index, name in enumerate(names):
        members.setdefault(name, []).append(index)
    n_needed = max(n_folds, 4 if n_folds == 2 else 3)
    if n_folds < 2 or len(members) < n_needed:
        raise ParameterError(
            f"{len(members)} independent images cannot make {n_folds} folds; expected 2 folds or more, and {n_needed} "
            "images at least"
        )
    rng = np.random.default_rng(seed)
    shuffled = list(members.values())
    shuffled = [shuffled[i] for i in rng.permutation(len(shuffled))]
    parts = _dealt(shuffled, n_folds)
    return tuple(_fold(parts, which, validation_fraction, rng) for which in range(n_folds))


def _dealt(groups: list[list[int]], n_folds: int) -> list[list[list[int]]]:
    """Groups dealt out, the largest first, each to the part that has the fewest images."""
    parts: list[list[list[int]]] = [[] for _ in range(n_folds)]
    for group in sorted(groups, key=len, reverse=True):
        min(parts, key=lambda part: (sum(map(len, part)), len(part))).append(group)
    n_least = 2 if n_folds == 2 else 1  # the other parts of each fold have to train and to validate
    while len(smallest := min(parts, key=len)) < n_least:
        smallest.append(max(parts, key=len).pop())
    return parts


def _fold(parts: list[list[list[int]]], which: int, fraction: float, rng: np.random.Generator) -> Fold:
    others = [group for i, part in enumerate(parts) if i != which for group in part]
    wanted = fraction * sum(map(len, others))
    kept: list[int] = []
    order = list(rng.permutation(len(others)))
    n_kept = 0
    while n_kept == 0 or (n_kept < len(order) - 1 and len(kept) + len(others[order[n_kept]]) / 2 <= wanted):
        kept += others[order[n_kept]]
        n_kept += 1
    rest = [index for i in order[n_kept:] for index in others[i]]
    tested = [index for group in parts[which] for index in group]
    return Fold(tuple(sorted(rest)), tuple(sorted(kept)), tuple(sorted(tested)))


def nested_subsets(n_items: int, sizes: Sequence[int], *, seed: int = 0) -> tuple[tuple[int, ...], ...]:
    """Draw subsets of rising size, each of which holds the one before: few labels, then more.

    Parameters
    ----------
    n_items : int
    sizes : sequence of int
        Rising, from 1 to ``n_items``.
    seed : int
        The same seed gives the same subsets; a size gives the same subset whatever other sizes are asked for.

    Returns
    -------
    tuple of tuple of int
        Indices, rising.

    Raises
    ------
    ParameterError
        Sizes that do not rise, or are out of range.

    Examples
    --------
    >>> [len(subset) for subset in nested_subsets(9, (2, 5))]
    [2, 5]
    """
    if any(b <= a for a, b in pairwise(sizes)) or any(not 1 <= size <= n_items for size in sizes):
        raise ParameterError(f"subsets of {list(sizes)} out of {n_items}; expected rising sizes from 1 to {n_items}")
    order = np.random.default_rng([seed, n_items]).permutation(n_items)
    return tuple(tuple(sorted(int(i) for i in order[:size])) for size in sizes)
