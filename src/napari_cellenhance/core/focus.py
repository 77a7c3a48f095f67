"""How sharp objects are, and two thresholds that part the sharp from the blurred ones.

References
----------
.. [1] Javer & Rittscher 2019, arXiv 1909.00691: crops of microglia in and out of focus, told apart by the mean
   Laplacian of Gaussian. The published scripts take a 3×3 Laplacian behind a cascade of medians instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_cellenhance.core.crop_library import CropLibrary
from napari_cellenhance.core.errors import ImageError, ParameterError

__all__ = [
    "BETWEEN", "FocusMethod", "FocusOptions", "FocusThresholds", "propose_thresholds", "sharpness", "sort_by_focus",
]  # fmt: skip

FocusMethod = Literal["log", "laplacian"]
BETWEEN = "neither sharp nor blurred"
"""Why an object between the two thresholds is left out."""

_MEDIAN_PX = 5


class FocusThresholds(NamedTuple):
    """Scores of ``low`` and less are blurred, of ``high`` and more sharp."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FocusOptions:
    """How the sharpness of an object is measured.

    Parameters
    ----------
    method : "log" or "laplacian"
        Laplacian of Gaussian (the paper), or the 3×3 Laplacian of the published scripts.
    sigma_px : float
        σ of the Gaussian of ``log``, in pixels; a larger one looks past noise.
    n_medians : int
        5×5 medians before; the scripts take 16 with ``laplacian``.
    low, high : float or None
        Thresholds of the score; None: proposed by :func:`propose_thresholds`.

    Raises
    ------
    ParameterError
        A setting out of its range, or a low threshold above the high one.
    """

    method: FocusMethod = "log"
    sigma_px: float = 1.0
    n_medians: int = 0
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.method not in get_args(FocusMethod):
            raise ParameterError(f"focus method is {self.method!r}; expected one of {', '.join(get_args(FocusMethod))}")
        if not (np.isfinite(self.sigma_px) and self.sigma_px > 0):
            raise ParameterError(f"σ of the focus score is {self.sigma_px} px; expected more than 0")
        if self.n_medians < 0:
            raise ParameterError(f"{self.n_medians} medians before the focus score; expected 0 or more")
        for name, value in (("low", self.low), ("high", self.high)):
            if value is not None and not np.isfinite(value):
                raise ParameterError(f"the {name} threshold of the focus score is {value}; expected a number")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ParameterError(
                f"the low threshold of the focus score, {self.low:g}, is above the high one, {self.high:g}; exchange "
                "them"
            )


def sharpness(plane: NDArray[Any], options: FocusOptions | None = None) -> NDArray[np.float32]:
    """Magnitude of the Laplacian of ln(x + 1) at every pixel; its mean over an object is the score of that ([1]_).

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
        Own grey values; what is below 0 counts as 0.
    options : FocusOptions, optional

    Returns
    -------
    ndarray of float32, shape (Y, X)
        It hardly depends on brightness where x is well above 1. Only edges and texture answer, so that the score of a
        small object is higher; noise raises it: compare objects of one kind of image.

    Raises
    ------
    ImageError
        No plane, or values that are no numbers.

    Examples
    --------
    >>> from scipy.ndimage import gaussian_filter
    >>> y, x = np.mgrid[:40, :40]
    >>> inside = np.hypot(y - 20, x - 20) < 10
    >>> sharp, blurred = (sharpness(gaussian_filter(100.0 * inside, sigma))[inside].mean() for sigma in (1, 4))
    >>> bool(sharp > 2 * blurred)
    True
    """
    from scipy.ndimage import laplace, median_filter

    from napari_cellenhance.core.postprocess import laplacian_of_gaussian

    chosen, pixels = options or FocusOptions(), np.asarray(plane)
    if pixels.ndim != 2:
        raise ImageError(f"sharpness is measured plane by plane; got an image of shape {pixels.shape}")
    if not np.isfinite(pixels).all():
        raise ImageError("the image contains NaN or infinite values; fill them first")
    values = np.clip(pixels, 0, None).astype(np.float32)
    for _ in range(chosen.n_medians):
        values = median_filter(values, _MEDIAN_PX, mode="nearest")
    logarithm = np.log1p(values)
    if chosen.method == "laplacian":
        return np.asarray(np.abs(laplace(logarithm, mode="nearest")), np.float32)
    # Without the scale normalisation: the score is the plain Laplacian of the smoothed image.
    answer = laplacian_of_gaussian(logarithm, chosen.sigma_px) / np.float32(chosen.sigma_px**2)
    return np.asarray(np.abs(answer), np.float32)


def propose_thresholds(scores: ArrayLike) -> FocusThresholds:
    """Propose the two thresholds from the scores of all objects.

    Parameters
    ----------
    scores : array-like
        Positive; other values are passed over.

    Returns
    -------
    FocusThresholds
        Otsu's threshold of the logarithms parts the scores in two groups; each threshold lies half way between it and
        the mean of its group, so that the doubtful middle is left out. Both are the same where all scores are.

    Raises
    ------
    ParameterError
        No score.

    Examples
    --------
    >>> low, high = propose_thresholds([0.01, 0.011, 0.012, 0.04, 0.043, 0.045])
    >>> 0.012 < low < high < 0.04
    True
    """
    values = np.asarray(scores, np.float64).ravel()
    values = np.sort(values[np.isfinite(values) & (values > 0)])
    if not values.size:
        raise ParameterError("no object has a focus score; find objects first")
    if values[0] == values[-1]:
        return FocusThresholds(float(values[0]), float(values[0]))
    logs = np.log(values)
    cut = _best_cut(logs)
    blurred, sharp = float(logs[:cut].mean()), float(logs[cut:].mean())
    middle = (logs[cut - 1] + logs[cut]) / 2
    return FocusThresholds(float(np.exp((blurred + middle) / 2)), float(np.exp((sharp + middle) / 2)))


def _best_cut(rising: NDArray[np.float64]) -> int:
    """Otsu without a histogram: how many of the lowest values form the group of largest variance between the two."""
    n_low = np.arange(1, len(rising))
    sums = np.cumsum(rising)[:-1]
    low, high = sums / n_low, (rising.sum() - sums) / (len(rising) - n_low)
    between = n_low * (len(rising) - n_low) * (high - low) ** 2
    return int(between.argmax()) + 1


def sort_by_focus(library: CropLibrary, thresholds: FocusThresholds) -> CropLibrary:
    """Sharp objects become the target, blurred ones unwanted, those between are left out.

    Parameters
    ----------
    library : CropLibrary
        Objects without a score, and those left out for another reason than :data:`BETWEEN`, stay where they are.
    thresholds : FocusThresholds

    Raises
    ------
    ParameterError
        A low threshold above the high one.

    Notes
    -----
    Sorting again with other thresholds undoes the first sorting, so that thresholds can be dragged.
    """
    low, high = thresholds
    if not low <= high:
        raise ParameterError(f"the low threshold of the focus score, {low:g}, is above the high one, {high:g}")
    objects = []
    for one in library.objects:
        if np.isfinite(one.score) and (one.kind != "discarded" or one.reason == BETWEEN):
            if one.score >= high:
                one = replace(one, kind="target", reason="")
            elif one.score <= low:
                one = replace(one, kind="unwanted", reason="")
            else:
                one = replace(one, kind="discarded", reason=BETWEEN)
        objects.append(one)
    return replace(library, objects=tuple(objects))
