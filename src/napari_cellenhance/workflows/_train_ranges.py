"""What kind of images a model of the user learned from, for its card: other images can then be told from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from napari_cellenhance.core.input_traits import ranges_over
from napari_cellenhance.zoo.manifest import list_models

__all__ = ["input_ranges", "planes_of"]


def input_ranges(planes: Sequence[NDArray[Any]], init_from: str | None) -> dict[str, list[float]]:
    """Field ``input_ranges`` of a model card.

    Parameters
    ----------
    planes : sequence of ndarray of shape (Y, X)
        As a run of the model will be given them, objects bright where the network wants them so.
    init_from : str or None
        Model that the training started from: what that one knew counts too.

    Returns
    -------
    dict of str to [float, float]
        Ready for JSON; empty where too little can be told.
    """
    ranges = ranges_over(planes)
    parent = next((card for card in list_models() if card.id == init_from), None)
    if parent is not None:
        for trait, (low, high) in parent.input_ranges.items():
            if trait in ranges:
                ranges[trait] = (min(low, ranges[trait][0]), max(high, ranges[trait][1]))
    return {trait: [low, high] for trait, (low, high) in ranges.items()}


def planes_of(images: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """All planes (Y, X) of images, volumes and channels (…, Y, X); views.

    >>> import numpy as np
    >>> [plane.shape for plane in planes_of([np.zeros((2, 3, 8, 9)), np.zeros((8, 9))])]
    [(8, 9), (8, 9), (8, 9), (8, 9), (8, 9), (8, 9), (8, 9)]
    """
    return [plane for image in images for plane in image.reshape(-1, *image.shape[-2:])]
