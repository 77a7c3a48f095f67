"""Which strength suits an image, judged without any label.

Criterion: **agreement**. At every strength objects are cut out (Otsu, touching ones split). Each cut
is compared with all others by the average precision of its objects at IoU 0.5. The strength whose
objects agree best with those at all other strengths is proposed: too weak, the ground's noise adds
objects that no other strength knows; too strong, objects flow together or are made up. Of strengths
within 0.1 of the best the weakest is taken, since a filter should do no more than it must.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.postprocess import segment

__all__ = ["Choice", "agreement", "choose", "object_precision"]

_MATCH_IOU = 0.5
_NEARLY = 0.1
"""Calibrated on training images of BBBC038, see docs/usage/strength.md."""
_MIN_SIZE_PX = 30


@dataclass(frozen=True, slots=True)
class Choice:
    """A strength, why, and the score of every strength that was tried."""

    strength: float
    reason: str
    scores: tuple[float, ...]


def choose(images: Sequence[NDArray[Any]], strengths: Sequence[float], default: float) -> Choice:
    """Propose a strength.

    Parameters
    ----------
    images : sequence of ndarray of shape (Y, X)
        The image at each strength, in [0, 1]; empty where it is of one grey value.
    strengths : sequence of float
        Increasing.
    default : float
        Proposed where there is nothing to judge by.

    Returns
    -------
    Choice
        Scores are empty where nothing could be judged.
    """
    if not images:
        return Choice(default, "The image is of one grey value: the default was kept.", ())
    if len(images) != len(strengths):
        raise ParameterError(f"{len(images)} images came with {len(strengths)} strengths; expected one for each")
    cuts = [segment(image, min_size_px=_MIN_SIZE_PX) for image in images]
    if not any(cut.any() for cut in cuts):
        return Choice(default, "No object was found at any strength: the default was kept.", ())
    scores = agreement(cuts)
    best = int(np.flatnonzero(scores >= scores.max() - _NEARLY)[0])
    n = int(cuts[best].max())
    reason = (
        f"From strength {strengths[best]:g} on, the objects ({n} there) hardly change with the strength "
        f"(agreement {100 * scores[best]:.0f} %)."
    )
    return Choice(float(strengths[best]), reason, tuple(float(score) for score in scores))


def agreement(cuts: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Mean average precision of the objects in each cut against those in every other one, from 0 to 1."""
    n = len(cuts)
    pairs = np.ones((n, n))
    for i in range(n):
        for j in range(i):
            pairs[i, j] = pairs[j, i] = object_precision(cuts[i], cuts[j])
    scores: NDArray[np.float64] = (pairs.sum(axis=1) - 1.0) / max(1, n - 1)
    return scores


def object_precision(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Matches / (matches + objects without one in either), at IoU > 0.5; symmetric, 1 for two empty pictures.

    Parameters
    ----------
    first, second : ndarray of int, shape (Y, X)
        Objects 1…n without gaps; 0 is ground.
    """
    n, m = int(first.max(initial=0)), int(second.max(initial=0))
    if n == 0 and m == 0:
        return 1.0
    code = first.astype(np.int64) * (m + 1) + second
    common = np.bincount(code.ravel(), minlength=(n + 1) * (m + 1)).reshape(n + 1, m + 1)
    areas, others = common.sum(axis=1)[1:, None], common.sum(axis=0)[None, 1:]
    inside = common[1:, 1:]
    n_matched = int((inside > _MATCH_IOU * (areas + others - inside)).sum())
    return n_matched / (n + m - n_matched)
