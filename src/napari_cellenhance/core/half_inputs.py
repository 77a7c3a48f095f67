"""Two images of half the information out of one: what a filter makes of both must agree. And of turned copies too.

References
----------
.. [1] Krull et al. and Batson & Royer, 2019: neighbouring pixels carry noise of their own, the specimen is shared.
.. [2] Neyman, 1934, and any text on Poisson processes: photons dealt out at random make two independent Poisson images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.doubt import GUARD_SHARE
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.noise_model import NoiseModel

__all__ = [
    "N_SYMMETRIES",
    "HalvesCheck",
    "checkerboard_halves",
    "compare_halves",
    "noise_halves",
    "photon_halves",
    "spread",
    "symmetries",
]

N_SYMMETRIES = 8
_MIN_OBJECT_PX = 20

Float32 = NDArray[np.float32]


def checkerboard_halves(plane: NDArray[np.generic]) -> tuple[Float32, Float32]:
    """The black and the white fields of a checkerboard, each filled by the mean of its four neighbours ([1]_).

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
        Finite, sides of 2 px or more.

    Returns
    -------
    pair of ndarray of float32, same shape
        No pixel of the plane is in both, so that noise which is independent from pixel to pixel is independent in them.

    Examples
    --------
    >>> even, odd = checkerboard_halves(np.eye(2))
    >>> even.tolist(), odd.tolist()
    ([[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]])
    """
    image = np.asarray(plane, np.float64)
    if image.ndim != 2 or min(image.shape) < 2:
        raise ImageError(f"an image of shape {image.shape} has no halves; expected a plane of 2 px or more")
    padded = np.pad(image, 1, mode="reflect")
    around = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]) / 4
    is_even = np.indices(image.shape).sum(0) % 2 == 0
    return np.where(is_even, image, around).astype(np.float32), np.where(is_even, around, image).astype(np.float32)


def photon_halves(
    plane: NDArray[np.generic], gain: float, offset: float, rng: np.random.Generator
) -> tuple[Float32, Float32]:
    """Deal the photons of an image out to two, half of them to each; both in the grey values of the image ([2]_).

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
    gain : float
        Grey values per photon, more than 0.
    offset : float
        Grey value without light.
    rng : Generator

    Raises
    ------
    ParameterError
        A gain that is not more than 0, or numbers that are not finite.
    """
    if not (np.isfinite(gain) and gain > 0 and np.isfinite(offset)):
        raise ParameterError(f"a gain of {gain} and an offset of {offset}; expected a gain of more than 0")
    image = np.asarray(plane, np.float64)
    photons = np.rint(np.maximum(image - offset, 0.0) / gain).astype(np.int64)
    first = rng.binomial(photons, 0.5)
    halves = (2 * gain * first + offset, 2 * gain * (photons - first) + offset)
    return halves[0].astype(np.float32), halves[1].astype(np.float32)


def noise_halves(plane: NDArray[np.generic], noise: NoiseModel, rng: np.random.Generator) -> tuple[Float32, Float32]:
    """The image plus, and less, noise drawn from its own model: two images of twice its variance.

    Notes
    -----
    For y = s + n and a drawn m of the same normal law, n + m and n − m are independent: the two are as two exposures of
    half the light each. Where the law of the noise is another one they are uncorrelated only.
    """
    from scipy.ndimage import gaussian_filter

    image = np.asarray(plane, np.float64)
    drawn = rng.normal(0.0, 1.0, image.shape) * np.sqrt(noise.variance(gaussian_filter(image, 1.0)))
    return (image + drawn).astype(np.float32), (image - drawn).astype(np.float32)


def symmetries(plane: NDArray[np.generic]) -> Iterator[tuple[NDArray[np.generic], Callable[[Float32], Float32]]]:
    """The eight turned and flipped copies of a plane, each with what turns a result back.

    >>> plane = np.arange(6.0).reshape(2, 3)
    >>> all((back(copy) == plane).all() for copy, back in symmetries(plane))
    True
    """
    for flips in (False, True):
        for turns in range(4):
            copy = np.rot90(plane[:, ::-1] if flips else plane, turns)

            def back(result: Float32, flips: bool = flips, turns: int = turns) -> Float32:
                turned = np.rot90(result, -turns)
                return turned[:, ::-1] if flips else turned

            yield np.ascontiguousarray(copy), back


def spread(results: Sequence[NDArray[np.floating]]) -> Float32:
    """Standard deviation of each pixel over several results of one place."""
    if len(results) < 2:
        raise ParameterError(f"{len(results)} result(s) have no spread; expected two or more")
    return np.asarray(np.std(np.stack(results), axis=0, ddof=1), np.float32)


@dataclass(frozen=True, slots=True)
class HalvesCheck:
    """How far the results of two halves agree.

    Parameters
    ----------
    difference : ndarray of float32, shape (Y, X)
        |first − second|.
    flags : ndarray of uint8, shape (Y, X)
        1 on objects that only the first has, 2 on objects that only the second has, 3 where else they differ by more
        than the share; 0 elsewhere.
    n_objects : int
        Of both together.
    n_alone : int
        Objects of one that the other lacks.
    doubtful : float
        Share of the pixels that differ by more than the share of the contrast.
    """

    difference: Float32
    flags: NDArray[np.uint8]
    n_objects: int
    n_alone: int
    doubtful: float


def compare_halves(
    first: NDArray[np.floating], second: NDArray[np.floating], contrast: float, *, share: float = GUARD_SHARE
) -> HalvesCheck:
    """Compare what a filter made of two halves.

    Parameters
    ----------
    first, second : ndarray of shape (Y, X)
    contrast : float
        Of the result of the whole image, more than 0; see :func:`napari_cellenhance.core.doubt.contrast_of`.
    share : float
        Of the contrast, by which pixels may differ.

    Notes
    -----
    Objects are connected pixels above Otsu's threshold of both together, of 20 px or more. One stands alone where less
    than a tenth of its pixels is above the threshold in the other result.
    """
    from skimage.filters import threshold_otsu

    a, b = np.asarray(first, np.float32), np.asarray(second, np.float32)
    if a.shape != b.shape:
        raise ImageError(f"the results of the halves have the shapes {a.shape} and {b.shape}; expected the same")
    difference = np.abs(a - b)
    is_apart = difference > share * contrast
    flags = np.where(is_apart, 3, 0).astype(np.uint8)
    both = np.stack([a, b])
    if both.min() == both.max():
        return HalvesCheck(difference, flags, 0, 0, float(is_apart.mean()))
    level = threshold_otsu(both)  # type: ignore[no-untyped-call]
    n_objects = n_alone = 0
    for value, (own, other) in enumerate(((a, b), (b, a)), start=1):
        alone, n, n_lonely = _alone(own > level, other > level)
        flags[alone] = value
        n_objects, n_alone = n_objects + n, n_alone + n_lonely
    return HalvesCheck(difference, flags, n_objects, n_alone, float(is_apart.mean()))


def _alone(own: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int, int]:
    """Objects of one mask that the other lacks; how many objects there are, and how many of those."""
    from scipy.ndimage import label

    labels, n = label(own)
    areas = np.bincount(labels.ravel(), minlength=n + 1)
    shared = np.bincount(labels.ravel(), other.ravel(), minlength=n + 1)
    is_object = areas >= _MIN_OBJECT_PX
    is_object[0] = False
    is_lonely = is_object & (shared < 0.1 * areas)
    return is_lonely[labels], int(is_object.sum()), int(is_lonely.sum())
